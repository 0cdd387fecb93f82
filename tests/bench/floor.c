/* The floor: what an upload costs without a language, a library or a journal. Threads with a
 * keep-alive connection each take the next part, pread it into one buffer, hash it where asked,
 * and send it.   floor PORT FILE PARTS BLOCK THREADS HASH [HOST]   */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STEP (256 * 1024)
static int port, fd, hashing;
static long parts, block;
static const char *host = "127.0.0.1";
static atomic_long following;

static void fail(const char *what) { perror(what); exit(1); }

static int dial(void) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, host, &to.sin_addr);
    if (s < 0 || connect(s, (struct sockaddr *)&to, sizeof to)) fail("connect");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return s;
}

static void put_all(int s, const char *from, size_t n) {
    while (n) {
        ssize_t done = send(s, from, n, MSG_NOSIGNAL);
        if (done < 0) fail("send");
        from += done;
        n -= done;
    }
}

static void answer(int s) {
    char got[8192];
    size_t have = 0;
    char *end = NULL, *length;
    while (!end) {
        ssize_t n = recv(s, got + have, sizeof got - 1 - have, 0);
        if (n <= 0) fail("recv");
        have += n;
        got[have] = 0;
        end = strstr(got, "\r\n\r\n");
    }
    if (strncmp(got, "HTTP/1.1 200", 12)) { fprintf(stderr, "%.100s\n", got); exit(1); }
    length = strcasestr(got, "content-length:");
    long left = (length ? atol(length + 15) : 0) - (long)(have - (end + 4 - got));
    while (left > 0) {
        ssize_t n = recv(s, got, left < (long)sizeof got ? left : (long)sizeof got, 0);
        if (n <= 0) fail("recv");
        left -= n;
    }
}

static void head(int s, const char *verb, const char *target, long length) {
    char text[512];
    int n = snprintf(text, sizeof text,
        "%s %s HTTP/1.1\r\nHost: bucket.%s:%d\r\nContent-Type: application/octet-stream\r\n"
        "Content-Length: %ld\r\n\r\n", verb, target, host, port, length);
    put_all(s, text, n);
}

static void *work(void *unused) {
    char *buffer = malloc(STEP), target[128];
    unsigned char digest[20];
    int s = -1;
    long number;
    (void)unused;
    while ((number = atomic_fetch_add(&following, 1)) < parts) {
        if (s < 0) s = dial();
        snprintf(target, sizeof target, "/big?uploadId=upload&partNumber=%ld", number);
        head(s, "PUT", target, block);
        SHA_CTX hash;
        SHA1_Init(&hash);
        for (long at = 0; at < block; at += STEP) {
            ssize_t n = pread(fd, buffer, block - at < STEP ? block - at : STEP, number * block + at);
            if (n <= 0) fail("pread");
            if (hashing) SHA1_Update(&hash, buffer, n);
            put_all(s, buffer, n);
        }
        SHA1_Final(digest, &hash);
        answer(s);
    }
    if (s >= 0) close(s);
    free(buffer);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 7) return 2;
    port = atoi(argv[1]);
    fd = open(argv[2], O_RDONLY);
    if (fd < 0) fail(argv[2]);
    parts = atol(argv[3]);
    block = atol(argv[4]);
    int threads = atoi(argv[5]);
    hashing = atoi(argv[6]);
    if (argc > 7) host = argv[7];
    int s = dial();
    head(s, "POST", "/big?uploads", 0);
    answer(s);
    pthread_t crew[256];
    for (int i = 0; i < threads; i++) pthread_create(&crew[i], NULL, work, NULL);
    for (int i = 0; i < threads; i++) pthread_join(crew[i], NULL);
    char *list = malloc(parts * 32 + 1), *at = list;
    for (long i = 0; i < parts; i++) at += sprintf(at, "%s\"0123456789012345678901234567\"", i ? "," : "");
    head(s, "POST", "/big?uploadId=upload", at - list);
    put_all(s, list, at - list);
    answer(s);
    return 0;
}
