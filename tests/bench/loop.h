/* What the two programs share: clock, one-shot timer, sockets. Include once per program. */
#pragma once
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull /* nanoseconds */
#define BATCH 512     /* events taken from epoll in one turn */

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* one clock for all processes of a machine */
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* A timerfd rather than epoll_wait's timeout, whose unit of a millisecond is too coarse here. */
typedef struct {
    int fd;
    uint64_t armed; /* 0: not armed */
} timer;

static inline void timer_arm(timer *t, uint64_t at) {
    if (t->armed == at) return;
    t->armed = at;
    struct itimerspec spec = {.it_value = {(time_t)(at / 1000000000ull), (long)(at % 1000000000ull)}};
    timerfd_settime(t->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static inline void watch(int epoll, int fd, uint32_t events, void *owner) {
    struct epoll_event event = {.events = events, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
}

static inline void timer_open(timer *t, int epoll) {
    t->armed = 0;
    t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (t->fd < 0) die("timerfd_create");
    watch(epoll, t->fd, EPOLLIN | EPOLLET, t);
}

static inline void no_delay(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* End with the parent, take every descriptor allowed, and live no longer than `seconds`. */
static inline void settle_in(unsigned seconds) {
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    alarm(seconds);
}
