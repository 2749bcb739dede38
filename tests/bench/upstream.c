/* A fake OpenAI-shaped upstream, cheap enough to share a core with the load generator.
 *
 *     upstream [port]     prints "port N" once it listens on 127.0.0.1; lives an hour at most
 *
 * Any POST is a chat completion: SSE for "stream":true, else JSON of about 1 KB. GET /stats counts
 * what happened; any other GET is a list of models. The prompt chooses the pace, since the prompt
 * is what every gateway hands on unchanged:
 *
 *     bench:<events>x<interval us>x<padding bytes>;
 *
 * Interval 0 is a burst: as fast as the socket takes, still one write an event, as a fast upstream
 * flushes. Each content delta is ~<sequence>:<monotonic ns when sent>~ and padding, so that the
 * load generator can tell order and transit time. Requests need a Content-Length.
 */
#include "loop.h"

#define BUFFER 65536
#define TAIL 63             /* bytes of a body kept between reads: what is searched for may straddle */
#define SLOT_NS 100000ull   /* timer wheel: 100 us a slot, */
#define SLOTS 8192          /* 0.8 s a turn; longer waits stay for another turn */
#define BURST 64            /* events a burst writes before others have their turn */
#define MAX_PADDING 16384
#define CHUNK "\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"bench-upstream\","
#define ID "{\"id\":\"chatcmpl-bench0123456789abcdefghij\","
#define USAGE "\"usage\":{\"prompt_tokens\":211,\"completion_tokens\":%u,\"total_tokens\":%u}"

typedef struct conn {
    struct conn *next, **link; /* place in the wheel; link NULL: in none */
    int fd;
    bool get, in_body, streaming, answering, want_usage, close_after, ended;
    size_t have, seen;         /* bytes in buffer; how many of them are body already counted */
    long long body_left;
    unsigned events, sent, padding;
    uint64_t interval, due;
    char *out;                 /* what the socket did not take */
    size_t out_len, out_off;
    char buffer[BUFFER];
} conn;

static struct { unsigned long posts, gets, hangups, bad; } stats;
static int epoll_fd;
static timer wake;
static conn *wheel[SLOTS], *spare;
static uint64_t tick;       /* slots before this one are done */
static size_t waiting;      /* connections in the wheel */
static char completion[4096], models[4096];
static size_t completion_len, models_len;
static char event[MAX_PADDING + 512];
static size_t event_len, event_seq, event_ns;
static unsigned event_padding = ~0u;

static void wheel_out(conn *c) {
    if (!c->link) return;
    *c->link = c->next;
    if (c->next) c->next->link = c->link;
    c->link = NULL;
    waiting--;
}

static void wheel_in(conn *c) {
    uint64_t slot = c->due / SLOT_NS;
    conn **head = &wheel[(slot < tick ? tick : slot) % SLOTS];
    c->next = *head;
    c->link = head;
    if (*head) (*head)->link = &c->next;
    *head = c;
    waiting++;
}

static void hang_up(conn *c) {
    wheel_out(c);
    close(c->fd);
    c->fd = -1; /* how callers see it */
    free(c->out);
    c->out = NULL;
    c->next = spare; /* kept: a fresh one would have its 64 KB faulted in again */
    spare = c;
}

static void put_digits(char *end, uint64_t value, int width) {
    while (width--) *--end = (char)('0' + value % 10), value /= 10;
}

/* Lay out one content event of this padding; sequence and time have fixed places in it. */
static void lay_out_event(unsigned padding) {
    static char json[MAX_PADDING + 400], pad[MAX_PADDING + 1];
    memset(pad, 'x', padding);
    for (unsigned i = 0; i < padding; i += 6) pad[i] = ' ';
    pad[padding] = 0;
    int n = snprintf(json, sizeof json,
                     "data: " ID CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                     "\"~000000:0000000000000000000~%s\"},\"finish_reason\":null}]}\n\n", pad);
    event_len = (size_t)snprintf(event, sizeof event, "%x\r\n%s\r\n", (unsigned)n, json);
    event_seq = (size_t)(strchr(event, '~') - event) + 1 + 6;
    event_ns = event_seq + 1 + 19;
    event_padding = padding;
}

static void stamp_event(conn *c, uint64_t now) {
    if (event_padding != c->padding) lay_out_event(c->padding);
    put_digits(event + event_seq, c->sent++, 6);
    put_digits(event + event_ns, now, 19);
}

/* Write, and keep what the socket does not take until it is writable. */
static void send_all(conn *c, const char *data, size_t n) {
    ssize_t sent = c->out ? 0 : write(c->fd, data, n);
    if (sent < 0 && errno != EAGAIN) {
        stats.hangups++;
        hang_up(c);
        return;
    }
    size_t done = sent > 0 ? (size_t)sent : 0;
    if (done < n) {
        size_t left = c->out_len - c->out_off;
        char *out = malloc(left + n - done);
        if (!out) die("malloc");
        if (left) memcpy(out, c->out + c->out_off, left);
        memcpy(out + left, data + done, n - done);
        free(c->out);
        c->out = out, c->out_off = 0, c->out_len = left + n - done;
    }
}

static void answer_done(conn *c) {
    c->answering = c->in_body = false;
    c->have = c->seen = 0;
    if (c->close_after) hang_up(c);
}

static size_t put_chunk(char *to, const char *json) {
    return (size_t)sprintf(to, "%x\r\ndata: %s\n\n\r\n", (unsigned)strlen(json) + 8, json);
}

static void begin_stream(conn *c, uint64_t now) {
    static char out[sizeof event + 1024];
    size_t n = (size_t)sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                                    "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    n += put_chunk(out + n, ID CHUNK "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},"
                                     "\"finish_reason\":null}]}");
    c->sent = 0;
    stamp_event(c, now);
    memcpy(out + n, event, event_len);
    send_all(c, out, n + event_len);
}

static void end_stream(conn *c) {
    char out[2048], usage[512];
    size_t n = put_chunk(out, ID CHUNK "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}");
    snprintf(usage, sizeof usage, ID CHUNK "\"choices\":[]," USAGE "}", c->events, c->events + 211);
    if (c->want_usage) n += put_chunk(out + n, usage);
    n += put_chunk(out + n, "[DONE]");
    n += (size_t)sprintf(out + n, "0\r\n\r\n");
    c->ended = true;
    send_all(c, out, n);
}

/* Send what is due, then wait for the next time, or for the socket, or be done. */
static void go_on(conn *c) {
    uint64_t now = now_ns();
    for (int turn = 0; c->fd >= 0 && !c->out && !c->ended && c->due <= now && turn < BURST; turn++) {
        if (c->sent < c->events) {
            now = now_ns();
            stamp_event(c, now);
            send_all(c, event, event_len);
        } else end_stream(c);
        c->due += c->interval; /* from the plan, not from now: a late event delays no other */
    }
    if (c->fd < 0 || c->out) return; /* gone, or EPOLLOUT goes on */
    if (c->ended) answer_done(c);
    else wheel_in(c);
}

static void flush(conn *c) {
    ssize_t n = write(c->fd, c->out + c->out_off, c->out_len - c->out_off);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) {
        stats.hangups++;
        hang_up(c);
        return;
    }
    c->out_off += (size_t)n;
    if (c->out_off < c->out_len) return;
    free(c->out);
    c->out = NULL, c->out_len = c->out_off = 0;
    if (c->ended) answer_done(c);
    else go_on(c);
}

static void answer_get(conn *c) {
    char out[512], body[256];
    stats.gets++;
    if (memcmp(c->buffer, "GET /stats", 10)) {
        send_all(c, models, models_len);
        return;
    }
    int n = sprintf(body, "{\"posts\":%lu,\"gets\":%lu,\"hangups\":%lu,\"bad\":%lu}", stats.posts, stats.gets,
                    stats.hangups, stats.bad);
    n = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", n, body);
    send_all(c, out, (size_t)n);
}

static void answer(conn *c) {
    c->answering = c->ended = true;
    if (c->get) answer_get(c);
    else if (stats.posts++, c->streaming) {
        uint64_t now = now_ns();
        c->ended = false;
        c->due = now + c->interval;
        begin_stream(c, now);
    } else send_all(c, completion, completion_len);
    if (c->fd >= 0 && !c->out) {
        if (c->ended) answer_done(c);
        else go_on(c);
    }
}

static bool is_true(const char *at, const char *end) {
    while (at < end && *at == ' ') at++;
    return at < end && *at == 't';
}

/* Look for what we need to know in these bytes of a body; each search stops at its first hit. */
static void scan(conn *c, const char *at, size_t n) {
    const char *end = at + n, *hit;
    unsigned events, interval, padding;
    char close;
    if (!c->events && (hit = memmem(at, n, "bench:", 6))) {
        char text[48] = {0}; /* bounded and ended for sscanf; without its ';' it straddles: next time */
        memcpy(text, hit, (size_t)(end - hit) < 47 ? (size_t)(end - hit) : 47);
        if (sscanf(text, "bench:%ux%ux%u%c", &events, &interval, &padding, &close) == 4 && close == ';') {
            c->events = events ? events : 1;
            c->interval = interval * 1000ull;
            c->padding = padding < MAX_PADDING ? padding : MAX_PADDING;
        }
    }
    if (!c->streaming && (hit = memmem(at, n, "\"stream\":", 9))) c->streaming = is_true(hit + 9, end);
    if (!c->want_usage && c->streaming && (hit = memmem(at, n, "\"include_usage\":", 16)))
        c->want_usage = is_true(hit + 16, end);
}

/* Read the request line and the two headers that matter. False: not a request for us. */
static bool read_head(conn *c, char *end) {
    c->body_left = -1;
    c->close_after = c->streaming = c->want_usage = false;
    c->events = 0, c->interval = 0, c->padding = 16;
    for (char *line = memchr(c->buffer, '\n', (size_t)(end - c->buffer)); line && ++line < end;
         line = memchr(line, '\n', (size_t)(end - line))) {
        if ((*line | 32) != 'c') continue;
        if (!strncasecmp(line, "content-length:", 15)) c->body_left = atoll(line + 15);
        else if (!strncasecmp(line, "connection: close", 17)) c->close_after = true;
    }
    c->get = !memcmp(c->buffer, "GET ", 4);
    if (c->get) c->body_left = 0;
    return c->get || (c->body_left >= 0 && !memcmp(c->buffer, "POST ", 5));
}

/* Take in what was read; answer when the request is whole. */
static void take(conn *c) {
    char *start = c->buffer;
    if (!c->in_body) {
        char *end = memmem(c->buffer, c->have, "\r\n\r\n", 4);
        if (!end && c->have < BUFFER) return;
        if (!end || !read_head(c, end)) {
            stats.bad++;
            hang_up(c);
            return;
        }
        c->in_body = true;
        start = end + 4;
        c->seen = (size_t)(start - c->buffer);
    }
    size_t n = (size_t)(c->buffer + c->have - start);
    c->body_left -= (long long)(c->have - c->seen);
    if (n) scan(c, start, n);
    if (c->body_left > 0) {
        size_t keep = n < TAIL ? n : TAIL;
        memmove(c->buffer, c->buffer + c->have - keep, keep);
        c->have = c->seen = keep;
        return;
    }
    if (c->body_left < 0) c->close_after = true; /* pipelined: no client of ours does that */
    answer(c);
}

static void readable(conn *c, bool closing) {
    while (c->fd >= 0) {
        char *at = c->buffer + c->have, byte;
        size_t room = BUFFER - c->have;
        /* During an answer nothing may come but the end of the connection. */
        ssize_t n = c->answering ? recv(c->fd, &byte, 1, MSG_PEEK) : read(c->fd, at, room);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0 || c->answering) {
            stats.hangups += c->answering;
            hang_up(c);
            return;
        }
        c->have += (size_t)n;
        take(c);
        if ((size_t)n < room && !closing) return; /* a short read emptied the socket (epoll(7)) */
    }
}

/* Give every connection that is due its turn; returns when the next one is due (0: none). */
static uint64_t advance(void) {
    uint64_t now = now_ns(), from = tick, next = 0;
    tick = now / SLOT_NS; /* first, so that whoever waits again lands in this slot or a later one */
    if (!waiting) return 0;
    if (tick - from >= SLOTS) from = tick - SLOTS + 1;
    for (uint64_t slot = from; slot <= tick; slot++) {
        conn *list = wheel[slot % SLOTS], *c;
        wheel[slot % SLOTS] = NULL;
        while ((c = list)) {
            list = c->next;
            c->link = NULL;
            waiting--;
            if (c->due <= now) go_on(c);
            else wheel_in(c);
        }
    }
    for (uint64_t slot = tick; waiting && slot < tick + SLOTS; slot++) {
        for (conn *c = wheel[slot % SLOTS]; c; c = c->next)
            if (!next || c->due < next) next = c->due;
        if (next && next < (slot + 1) * SLOT_NS) break; /* else of another turn of the wheel */
    }
    return next;
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        conn *c = spare;
        if (c) spare = c->next;
        else if (!(c = malloc(sizeof *c))) die("malloc");
        memset(c, 0, offsetof(conn, buffer));
        c->fd = fd;
        no_delay(fd);
        watch(epoll_fd, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
    }
}

static size_t lay_out_json(char *to, const char *body) {
    return (size_t)sprintf(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                           strlen(body), body);
}

static void lay_out_answers(void) {
    char body[2048], text[641];
    for (size_t i = 0; i < 640; i++) text[i] = "a reply of plain words "[i % 23];
    text[640] = 0;
    snprintf(body, sizeof body,
             "{\"id\":\"chatcmpl-bench0123456789abcdefghij\",\"object\":\"chat.completion\",\"created\":1760000000,"
             "\"model\":\"bench-upstream\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
             "\"content\":\"%s\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}]," USAGE "}",
             text, 160u, 371u);
    completion_len = lay_out_json(completion, body);
    int n = sprintf(body, "{\"object\":\"list\",\"data\":[");
    for (int i = 0; i < 4; i++)
        n += sprintf(body + n, "%s{\"id\":\"bench/model-%d\",\"object\":\"model\",\"created\":1760000000,\"owned_by\":"
                               "\"bench\",\"description\":\"%.150s\"}", i ? "," : "", i, text);
    sprintf(body + n, "]}");
    models_len = lay_out_json(models, body);
}

static int listen_on(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, size) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&at, &size);
    printf("port %d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    struct epoll_event batch[BATCH];
    settle_in(3600);
    lay_out_answers();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on((uint16_t)(argc > 1 ? atoi(argv[1]) : 0));
    watch(epoll_fd, listener, EPOLLIN | EPOLLET, NULL);
    timer_open(&wake, epoll_fd);
    for (;;) {
        uint64_t next = advance();
        bool late = next && next <= now_ns();
        if (next && !late) timer_arm(&wake, next);
        int n = epoll_wait(epoll_fd, batch, BATCH, late ? 0 : -1);
        for (int i = 0; i < n; i++) {
            conn *c = batch[i].data.ptr;
            uint32_t what = batch[i].events;
            if (!c) accept_all(listener);
            else if (batch[i].data.ptr == &wake) wake.armed = 0;
            else {
                if (c->out && (what & EPOLLOUT)) flush(c);
                if (c->fd >= 0 && (what & ~(uint32_t)EPOLLOUT)) readable(c, what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
            }
        }
    }
}
