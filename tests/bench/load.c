/* A load generator for OpenAI-shaped chat completions; talks to loopback addresses only.
 *
 *     load --port 8080 --kind json|stream|image|get [--conns 64] [--seconds 3] [--count 0] ...
 *
 * Closed loop (no --rate): --conns connections ask again as soon as they are answered, until
 * --seconds have passed or --count answers were asked for. Open loop (--rate, --count): request k
 * starts in the k-th gap of 1/rate seconds, at a random place in it, so that starts neither come
 * in a herd nor beat with the upstream's timers; it takes an idle connection or opens one, and its
 * times count from the planned start, so a stall is not hidden by asking less.
 *
 * Prints one line of JSON. A completion counts as completed only with status 200, a finish_reason
 * and, as a stream, every delta once and in order, usage, and [DONE] with the end of the body
 * after it. Whatever broke off or did not end in time is unfinished; anything else is an error.
 */
#include "loop.h"

#define MAX_EVENTS 16384
#define HEAD 8192
#define LINE 65536
#define MAX_SAMPLES (16u << 20)

enum kind { JSON, STREAM, IMAGE, GET };
enum state { CLOSED, CONNECTING, IDLE, BUSY };
enum part { IN_HEAD, IN_LENGTH, IN_CHUNK_SIZE, IN_CHUNK, IN_CHUNK_END, IN_TRAILER, TO_EOF, WHOLE };

typedef struct conn {
    int fd, status;
    unsigned dials;      /* tells this connection's socket from its last one */
    enum state state;
    enum part part;
    bool keep, done, finish, usage, bad;
    size_t sent, head_len, line_len, trailer_len;
    long long left;
    unsigned seen, last; /* deltas seen; sequence expected next */
    uint64_t start, first;
    char *line;          /* a line, or a JSON body, that came in pieces */
    unsigned char bits[MAX_EVENTS / 8];
    char head[HEAD];
} conn;

typedef struct { uint64_t *at; size_t n, room; } samples;

static struct {
    const char *host, *path, *key, *model;
    enum kind kind;
    long port, conns, count, events, interval_us, padding, size;
    double seconds, rate, grace;
} opt = {.host = "127.0.0.1", .path = "/v1/chat/completions", .key = "none", .model = "bench", .conns = 64,
         .seconds = 3, .events = 100, .interval_us = 20000, .padding = 16, .size = 1024, .grace = 30};

static struct { unsigned long issued, completed, errors, unfinished, out_of_order, doubled, missing, events, max_open; } sum;
static char first_error[256];
static samples latency, ttft, lag, late;
static conn *conns;
static conn **idle;
static size_t idle_n, busy;
static int epoll_fd;
static timer wake;
static char *request;
static size_t request_len;
static bool stopping;
static uint64_t began, last_end;
static struct sockaddr_in target;

static void begin(conn *c, uint64_t start);

static void note(samples *s, uint64_t value) {
    if (s->n == s->room) {
        if (s->room >= MAX_SAMPLES) return;
        s->room = s->room ? s->room * 2 : 65536;
        if (!(s->at = realloc(s->at, s->room * sizeof *s->at))) die("realloc");
    }
    s->at[s->n++] = value;
}

/* Keep the words of the first failure, without anything that would break a JSON string. */
static void blame(const char *what, const char *detail, size_t n) {
    if (*first_error) return;
    size_t at = (size_t)snprintf(first_error, 120, "%s", what);
    for (size_t i = 0; i < n && at < sizeof first_error - 1; i++)
        first_error[at++] = isalnum((unsigned char)detail[i]) || strchr(" .:_-,", detail[i]) ? detail[i] : ' ';
    first_error[at] = 0;
}

static void wrong(conn *c, const char *what, const char *detail, size_t n) {
    c->bad = true;
    blame(what, detail, n);
}

static void shut(conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    c->state = CLOSED;
}

/* The request is over, well or not: book it and let the connection go on or rest. */
static void over(conn *c, uint64_t now, bool broken) {
    if (opt.kind == STREAM && c->status == 200) {
        unsigned missing = c->seen < opt.events ? (unsigned)opt.events - c->seen : 0;
        sum.missing += missing;
        if (!broken && !c->bad && !c->done) broken = true, blame("the body ended before [DONE]", "", 0);
        else if (!broken && (missing || !c->finish || !c->usage))
            wrong(c, missing ? "deltas missing" : c->finish ? "no usage" : "no finish_reason", "", 0);
    }
    if (broken) sum.unfinished++;
    else if (c->bad) sum.errors++;
    else {
        sum.completed++;
        note(&latency, now - c->start);
    }
    busy--;
    last_end = now;
    if (broken || c->bad || !c->keep) shut(c);
    else c->state = IDLE;
    if (sum.errors + sum.unfinished > 2000) stopping = true; /* it will not get better */
    if (opt.rate > 0) idle[idle_n++] = c;
    else if (!stopping && (!opt.count || sum.issued < (unsigned long)opt.count)) begin(c, now);
}

static void fail(conn *c, const char *why, bool answering) {
    uint64_t now = now_ns();
    c->keep = false;
    if (!answering) c->status = 0;
    blame(why, errno ? strerror(errno) : "", errno ? strlen(strerror(errno)) : 0);
    if (answering) over(c, now, true);
    else c->bad = true, over(c, now, false);
}

static void delta(conn *c, const char *mark, size_t n, uint64_t now) {
    char *end;
    unsigned long seq = strtoul(mark + 1, &end, 10);
    if (*end != ':' || n < 22) return;
    uint64_t sent = strtoull(end + 1, NULL, 10);
    if (seq >= (unsigned long)opt.events) {
        wrong(c, "an unknown delta", "", 0);
        return;
    }
    sum.events++;
    if (c->bits[seq / 8] & 1u << seq % 8) sum.doubled++;
    else {
        c->bits[seq / 8] |= (unsigned char)(1u << seq % 8);
        if (seq != c->last) sum.out_of_order++;
        c->last = (unsigned)seq + 1;
        if (!c->seen++) note(&ttft, now - c->start);
    }
    note(&lag, now > sent ? now - sent : 0);
}

static bool has_value(const char *at, size_t n, const char *name, char opens) {
    const char *end = at + n;
    if (!(at = memmem(at, n, name, strlen(name)))) return false;
    for (at += strlen(name); at < end && (*at == ' ' || *at == ':'); at++) {}
    return at < end && *at == opens;
}

/* One SSE line without its end. */
static void line(conn *c, const char *at, size_t n, uint64_t now) {
    const char *mark;
    if (n && at[n - 1] == '\r') n--;
    if (n < 6 || memcmp(at, "data:", 5)) return; /* blank, comment or another field */
    if (c->done) wrong(c, "data after [DONE]: ", at, n);
    else if ((mark = memchr(at, '~', n))) delta(c, mark, (size_t)(at + n - mark), now);
    else if (memmem(at, n, "[DONE]", 6) && n < 16) c->done = true;
    else {
        if (memmem(at, n, "\"error\":", 8)) wrong(c, "an error event: ", at, n);
        c->finish |= has_value(at, n, "\"finish_reason\"", '"');
        c->usage |= has_value(at, n, "\"usage\"", '{');
    }
}

static void keep_piece(conn *c, const char *at, size_t n) {
    if (!c->line && !(c->line = malloc(LINE))) die("malloc");
    if (n > LINE - c->line_len) n = LINE - c->line_len;
    memcpy(c->line + c->line_len, at, n);
    c->line_len += n;
}

static void body(conn *c, const char *at, size_t n, uint64_t now) {
    const char *end = at + n, *newline;
    if (opt.kind != STREAM || c->status != 200) {
        keep_piece(c, at, n);
        return;
    }
    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at)))) {
        if (c->line_len) {
            keep_piece(c, at, (size_t)(newline - at));
            line(c, c->line, c->line_len, now);
            c->line_len = 0;
        } else line(c, at, (size_t)(newline - at), now);
        at = newline + 1;
    }
    if (at < end) keep_piece(c, at, (size_t)(end - at));
}

static void whole(conn *c, uint64_t now) {
    if (c->status != 200) {
        char what[40];
        snprintf(what, sizeof what, "status %d: ", c->status);
        wrong(c, what, c->line, c->line_len);
    } else if (opt.kind == GET) {
        if (!c->line_len || *c->line != '{') wrong(c, "not JSON: ", c->line, c->line_len);
    } else if (opt.kind != STREAM) {
        if (!has_value(c->line, c->line_len, "\"finish_reason\"", '"')) wrong(c, "no finish_reason: ", c->line, c->line_len);
        else if (!has_value(c->line, c->line_len, "\"usage\"", '{')) wrong(c, "no usage: ", c->line, c->line_len);
    }
    over(c, now, false);
}

/* Read a whole head; false when it makes no sense. */
static bool head(conn *c, const char *at, const char *end) {
    if (end - at < 12 || memcmp(at, "HTTP/1.", 7)) return false;
    c->status = atoi(at + 9);
    c->keep = at[7] == '1';
    c->part = TO_EOF;
    for (const char *name = memchr(at, '\n', (size_t)(end - at)); name && ++name < end;
         name = memchr(name, '\n', (size_t)(end - name))) {
        if (!strncasecmp(name, "content-length:", 15)) c->left = atoll(name + 15), c->part = IN_LENGTH;
        else if (!strncasecmp(name, "transfer-encoding: chunked", 26)) c->part = IN_CHUNK_SIZE, c->left = 0;
        else if (!strncasecmp(name, "connection: close", 17)) c->keep = false;
    }
    if (c->part == TO_EOF) c->keep = false;
    if (c->part == IN_LENGTH && !c->left) c->part = WHOLE;
    return true;
}

static int hex(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    return (digit | 32) >= 'a' && (digit | 32) <= 'f' ? (digit | 32) - 'a' + 10 : -1;
}

/* One byte of chunk framing (RFC 9112 section 7.1): the size, what follows data, the trailer. */
static void framing(conn *c, char byte) {
    if (c->part == IN_CHUNK_SIZE) {
        int value = hex(byte);
        if (value >= 0 && c->left < 1 << 28) c->left = c->left * 16 + value;
        else if (byte == '\n') c->part = c->left ? IN_CHUNK : IN_TRAILER, c->trailer_len = 0;
    } else if (c->part == IN_CHUNK_END) {
        if (byte == '\n') c->part = IN_CHUNK_SIZE;
    } else if (byte == '\n') {
        if (!c->trailer_len) c->part = WHOLE;
        c->trailer_len = 0;
    } else if (byte != '\r') c->trailer_len++;
}

/* Take the head from what came; returns how much of it belonged to the head, -1 for nonsense. */
static ssize_t take_head(conn *c, const char *at, size_t n) {
    const char *end = c->head_len ? NULL : memmem(at, n, "\r\n\r\n", 4);
    if (end) return head(c, at, end) ? end + 4 - at : -1;
    size_t had = c->head_len, room = HEAD - had, take = n < room ? n : room;
    memcpy(c->head + had, at, take);
    c->head_len += take;
    if (!(end = memmem(c->head, c->head_len, "\r\n\r\n", 4))) return c->head_len < HEAD ? (ssize_t)n : -1;
    return head(c, c->head, end) ? end + 4 - c->head - (ssize_t)had : -1;
}

static void feed(conn *c, const char *at, size_t n, uint64_t now) {
    const char *end = at + n;
    while (at < end && c->part != WHOLE) {
        if (c->part == IN_HEAD) {
            ssize_t taken = take_head(c, at, (size_t)(end - at));
            if (taken < 0) {
                errno = 0;
                fail(c, "not an HTTP answer", false);
                return;
            }
            at += taken;
        } else if (c->part == IN_LENGTH || c->part == IN_CHUNK || c->part == TO_EOF) {
            size_t take = (size_t)(end - at);
            if (c->part != TO_EOF && (long long)take > c->left) take = (size_t)c->left;
            body(c, at, take, now);
            at += take;
            if (c->part != TO_EOF && !(c->left -= (long long)take)) c->part = c->part == IN_LENGTH ? WHOLE : IN_CHUNK_END;
        } else framing(c, *at++);
    }
    if (c->part != WHOLE) return;
    if (at < end) c->keep = false, wrong(c, "bytes after the answer", "", 0);
    whole(c, now);
}

static void writable(conn *c) {
    while (c->sent < request_len) {
        ssize_t n = write(c->fd, request + c->sent, request_len - c->sent);
        if (n < 0 && errno == EAGAIN) return;
        if (n < 0) {
            /* Refused while sending: the answer that says why may already be here. */
            c->sent = request_len;
            return;
        }
        c->sent += (size_t)n;
    }
}

static void readable(conn *c, bool closing) {
    static char buffer[1 << 18];
    for (unsigned dials = c->dials; c->fd >= 0 && c->dials == dials;) {
        ssize_t n = read(c->fd, buffer, sizeof buffer);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (!n) errno = 0;
            if (c->state != BUSY) shut(c); /* an idle connection may be closed at any time */
            else if (!n && c->part == TO_EOF) whole(c, now_ns());
            else fail(c, c->part == IN_HEAD ? "no answer: " : "cut: ", c->part != IN_HEAD);
            return;
        }
        if (c->state != BUSY) shut(c), sum.errors++, blame("bytes nobody asked for", "", 0);
        else feed(c, buffer, (size_t)n, now_ns());
        if ((size_t)n < sizeof buffer && !closing) return; /* a short read emptied the socket (epoll(7)) */
    }
}

static void dial(conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    no_delay(c->fd);
    c->dials++;
    c->state = CONNECTING;
    if (!connect(c->fd, (struct sockaddr *)&target, sizeof target)) c->state = BUSY;
    else if (errno != EINPROGRESS) return fail(c, "connect: ", false);
    watch(epoll_fd, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
}

static void begin(conn *c, uint64_t start) {
    sum.issued++;
    if (++busy > sum.max_open) sum.max_open = busy;
    c->start = start;
    c->part = IN_HEAD;
    c->status = 0;
    c->keep = c->done = c->finish = c->usage = c->bad = false;
    c->sent = c->head_len = c->line_len = 0;
    c->left = 0;
    c->seen = c->last = 0;
    if (opt.kind == STREAM) memset(c->bits, 0, (size_t)opt.events / 8 + 1);
    if (c->state == CLOSED) dial(c);
    else c->state = BUSY;
    if (c->state == BUSY) writable(c);
}

static void event(conn *c, uint32_t what) {
    if (c->state == CONNECTING) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if ((errno = error)) return fail(c, "connect: ", false);
        c->state = BUSY;
    }
    if (c->state == BUSY && c->sent < request_len && (what & EPOLLOUT)) writable(c);
    if (c->fd >= 0 && (what & ~(uint32_t)EPOLLOUT)) readable(c, what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

/* Open loop: start what is due; returns when the next one is due (0: all were started). */
static uint64_t start_due(void) {
    static unsigned long k;
    static uint64_t due, random = 88172645463325252ull;
    double gap = 1e9 / opt.rate;
    while (!stopping && k < (unsigned long)opt.count) {
        if (!due) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17; /* xorshift64 */
            due = began + (uint64_t)(gap * ((double)k + (double)(random >> 11) / 9007199254740992.0));
        }
        uint64_t now = now_ns();
        if (due > now) return due;
        k++;
        note(&late, now - due);
        if (idle_n) begin(idle[--idle_n], due);
        else sum.issued++, sum.errors++, blame("every connection was busy", "", 0);
        due = 0;
    }
    return 0;
}

static int ascending(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, samples *s) {
    static const double share[] = {0.5, 0.9, 0.99, 1};
    static const char *label[] = {"p50", "p90", "p99", "max"};
    if (s->n) qsort(s->at, s->n, sizeof *s->at, ascending);
    printf(",\"%s_us\":{\"n\":%zu", name, s->n);
    for (int i = 0; s->n && i < 4; i++)
        printf(",\"%s\":%.1f", label[i], (double)s->at[(size_t)(share[i] * (double)(s->n - 1) + 0.5)] / 1e3);
    printf("}");
}

static void report(void) {
    double seconds = last_end > began ? (double)(last_end - began) / 1e9 : 0;
    printf("{\"issued\":%lu,\"completed\":%lu,\"errors\":%lu,\"unfinished\":%lu,\"out_of_order\":%lu,\"doubled\":%lu,"
           "\"missing\":%lu,\"events\":%lu,\"max_open\":%lu,\"seconds\":%.6f,\"first_error\":\"%s\"",
           sum.issued, sum.completed, sum.errors, sum.unfinished, sum.out_of_order, sum.doubled, sum.missing, sum.events,
           sum.max_open, seconds, first_error);
    print_samples("latency", &latency);
    print_samples("ttft", &ttft);
    print_samples("lag", &lag);
    print_samples("late", &late);
    printf("}\n");
}

static char *lay_out_prompt(void) {
    size_t size = (size_t)opt.size, n = 0;
    char *prompt = malloc(size + 4096), *image;
    if (!prompt) die("malloc");
    n += (size_t)sprintf(prompt, "{\"model\":\"%s\",\"stream\":%s,%s\"temperature\":0.7,\"messages\":[{\"role\":\"user\",\"content\":",
                         opt.model, opt.kind == STREAM ? "true" : "false",
                         opt.kind == STREAM ? "\"stream_options\":{\"include_usage\":true}," : "");
    n += (size_t)sprintf(prompt + n, "%sbench:%ldx%ldx%ld; ", opt.kind == IMAGE ? "[{\"type\":\"text\",\"text\":\"" : "\"",
                         opt.events, opt.interval_us, opt.padding);
    if (opt.kind == IMAGE) {
        n += (size_t)sprintf(prompt + n, "what is this\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,");
        for (image = prompt + n; (size_t)(image - prompt) + 8 < size; image++) /* any base64 will do */
            *image = "iVBORw0KGgoAAAANSUhEUgABCDEFHIJKLMPQTXYZcdefghjklmnopqrstuvwxyz+"[(image - prompt) * 7 % 63];
        n = (size_t)(image - prompt);
        n += (size_t)sprintf(prompt + n, "\"}}]}]}");
    } else {
        while (n + 4 < size) prompt[n] = "say something about it "[n % 23], n++;
        n += (size_t)sprintf(prompt + n, "\"}]}");
    }
    return prompt;
}

static void lay_out_request(void) {
    char *prompt = opt.kind == GET ? calloc(1, 1) : lay_out_prompt();
    size_t n = strlen(prompt);
    if (!(request = malloc(n + 2048))) die("malloc");
    int at = snprintf(request, 1900, "%s %s HTTP/1.1\r\nHost: %s:%ld\r\nAuthorization: Bearer %s\r\nAccept: */*\r\n",
                      opt.kind == GET ? "GET" : "POST", opt.path, opt.host, opt.port, opt.key);
    if (at >= 1900) exit(2);
    if (opt.kind != GET)
        at += sprintf(request + at, "Content-Type: application/json\r\nContent-Length: %zu\r\n", n);
    at += sprintf(request + at, "\r\n");
    memcpy(request + at, prompt, n);
    request_len = (size_t)at + n;
    free(prompt);
}

static bool set(const char *name, const char *value) {
    static const char *kinds[] = {"json", "stream", "image", "get"};
    struct { const char *name; const char **text; long *number; double *real; } known[] = {
        {"--host", &opt.host, 0, 0}, {"--path", &opt.path, 0, 0}, {"--key", &opt.key, 0, 0}, {"--model", &opt.model, 0, 0},
        {"--port", 0, &opt.port, 0}, {"--conns", 0, &opt.conns, 0}, {"--count", 0, &opt.count, 0},
        {"--events", 0, &opt.events, 0}, {"--interval-us", 0, &opt.interval_us, 0}, {"--padding", 0, &opt.padding, 0},
        {"--size", 0, &opt.size, 0}, {"--seconds", 0, 0, &opt.seconds}, {"--rate", 0, 0, &opt.rate},
        {"--grace", 0, 0, &opt.grace}};
    for (int i = 0; i < 4 && !strcmp(name, "--kind"); i++)
        if (!strcmp(value, kinds[i])) return opt.kind = (enum kind)i, true;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name)) continue;
        if (known[i].text) *known[i].text = value;
        else if (known[i].number) *known[i].number = atol(value);
        else *known[i].real = atof(value);
        return true;
    }
    return false;
}

static void read_options(int argc, char **argv) {
    bool fine = argc % 2;
    for (int i = 1; fine && i < argc; i += 2) fine = set(argv[i], argv[i + 1]);
    fine = fine && opt.port > 0 && opt.port < 65536 && opt.conns > 0 && opt.conns <= 16384 && opt.events > 0 &&
           opt.events <= MAX_EVENTS && opt.seconds > 0 && opt.seconds <= 600 && opt.grace <= 120 && opt.size <= 64 << 20 &&
           strlen(opt.model) < 256 && (opt.rate <= 0 || (opt.count > 0 && (double)opt.count / opt.rate <= 600));
    target.sin_family = AF_INET;
    target.sin_port = htons((uint16_t)opt.port);
    if (!fine || inet_pton(AF_INET, opt.host, &target.sin_addr) != 1 || ntohl(target.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "load: wrong options, out of bounds, or not a loopback address (see the top of load.c)\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    struct epoll_event batch[BATCH];
    read_options(argc, argv);
    bool open_loop = opt.rate > 0;
    double planned = open_loop ? (double)opt.count / opt.rate + (double)opt.events * (double)opt.interval_us / 1e6 : opt.seconds;
    settle_in((unsigned)(planned + opt.grace) + 30);
    lay_out_request();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_open(&wake, epoll_fd);
    conns = calloc((size_t)opt.conns, sizeof *conns);
    idle = calloc((size_t)opt.conns, sizeof *idle);
    if (!conns || !idle) die("calloc");
    for (long i = opt.conns; i--;) conns[i].fd = -1, idle[idle_n++] = &conns[i];
    began = now_ns();
    uint64_t stop_at = began + (uint64_t)(opt.seconds * 1e9), give_up = began + (uint64_t)((planned + opt.grace) * 1e9);
    for (long i = 0; !open_loop && i < opt.conns && (!opt.count || i < opt.count); i++) begin(&conns[i], now_ns());
    for (;;) {
        uint64_t now = now_ns(), next = open_loop ? start_due() : 0;
        if (!open_loop && now >= stop_at) stopping = true;
        if ((!busy && !next) || now >= give_up) break;
        timer_arm(&wake, next ? next : open_loop || stopping ? give_up : stop_at);
        int n = epoll_wait(epoll_fd, batch, BATCH, -1);
        for (int i = 0; i < n; i++) {
            if (batch[i].data.ptr == &wake) wake.armed = 0;
            else event(batch[i].data.ptr, batch[i].events);
        }
    }
    if (busy) last_end = now_ns(), sum.unfinished += busy, blame("not answered in time", "", 0);
    report();
    return 0;
}
