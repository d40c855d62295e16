/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Tries from inside: a child enters the sandbox, does one thing, and its end tells what came of it. */
#include "gateway/proc/sandbox.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/f2fs.h>
#include <netdb.h>
#include <pthread.h>
#include <resolv.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "libs/base/test.h"

#define KILLED (-1) /* by SIGSYS */

static char state_dir[] = "/tmp/sallyport-sandbox-XXXXXX";
static char journal_dir[160];
static char journal_file[200];
static char state_file[128];
static struct sp_config config = {.state_dir = state_dir};
static int listener = -1;
static uint16_t port; /* where a server listens, which the cloud is said to be */

/* Each returns 0 when it could do what it tries, else errno. */
static int outcome(long rc)
{
    return rc >= 0 ? 0 : errno;
}

static int open_passwd(void)
{
    return outcome(open("/etc/passwd", O_RDONLY));
}

static int open_state(void)
{
    return outcome(open(state_file, O_RDWR));
}

static int open_journal(void)
{
    return outcome(open(journal_file, O_RDWR));
}

static int make_in(const char *folder)
{
    char path[200];
    (void)snprintf(path, sizeof(path), "%s/new-%d", folder, (int)getpid());
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0) {
        return errno;
    }
    bool ok = write(fd, "x", 1) == 1 && ftruncate(fd, 0) == 0 && fsync(fd) == 0 && close(fd) == 0 &&
              unlink(path) == 0;
    return ok ? 0 : errno;
}

static int make_in_state(void)
{
    return make_in(state_dir);
}

static int make_in_journal(void)
{
    return make_in(journal_dir);
}

static int make_elsewhere(void)
{
    return outcome(open("/tmp/sallyport-sandbox-escape", O_RDWR | O_CREAT, 0600));
}

static int climb_out_of_state(void)
{
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/../../etc/passwd", state_dir);
    return outcome(open(path, O_RDONLY));
}

static int read_hosts(void)
{
    return outcome(open("/etc/hosts", O_RDONLY));
}

static int make_socket(void)
{
    return outcome(socket(AF_INET, SOCK_STREAM, 0));
}

static int make_unix_socket(void)
{
    return outcome(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int make_raw_socket(void)
{
    return outcome(socket(AF_PACKET, SOCK_RAW, 0));
}

static int connect_to(uint16_t to)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(to)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno : outcome(connect(fd, (struct sockaddr *)&address, sizeof(address)));
}

static int connect_to_cloud(void)
{
    return connect_to(port);
}

static int connect_elsewhere(void)
{
    return connect_to((uint16_t)(port == 1 ? 2 : 1));
}

static int connect_by_number(void)
{
    return outcome(syscall(SYS_connect, 0, NULL, 0));
}

static int bind_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd < 0 ? errno : outcome(bind(fd, (struct sockaddr *)&address, sizeof(address)));
}

static int listen_socket(void)
{
    return outcome(listen(listener, 1));
}

static int accept_connection(void)
{
    return outcome(accept4(listener, NULL, NULL, SOCK_CLOEXEC)); /* EAGAIN: it may */
}

static int execute(void)
{
    return outcome(execl("/bin/true", "true", (char *)NULL));
}

static int make_process(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return outcome(pid);
}

static int make_process_by_vfork(void)
{
    return outcome(syscall(SYS_vfork));
}

static int trace_parent(void)
{
    return outcome(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}

static int read_parent(void)
{
    return outcome(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static int kill_parent(void)
{
    return outcome(syscall(SYS_kill, getppid(), 0));
}

static int become_dumpable(void)
{
    return outcome(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int map_code(void)
{
    void *page =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? errno : 0;
}

static int turn_data_into_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return outcome(mprotect(page, 4096, PROT_READ | PROT_EXEC));
}

static int raise_a_limit(void)
{
    struct rlimit limit = {10, 10};
    return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}

static int use_io_uring(void)
{
    return outcome(syscall(SYS_io_uring_setup, 1, NULL));
}

static int become_root(void)
{
    return outcome(setuid(0));
}

static void *add_one(void *arg)
{
    void *page = malloc(200000);
    *(int *)arg += page != NULL;
    free(page);
    return NULL;
}

/* What a loop does all day. */
static int work(void)
{
    int sum = 0;
    (void)add_one(&sum);
    sp_log_debug(SP_EVENT("working"));
    struct timespec nap = {.tv_nsec = 1000};
    return sum == 1 && nanosleep(&nap, NULL) == 0 ? 0 : 1;
}

static int make_threads(void)
{
    pthread_t thread;
    int sum = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (pthread_create(&thread, NULL, add_one, &sum) != 0 || pthread_join(thread, NULL) != 0) {
            return 1;
        }
    }
    return sum == 4 ? 0 : 1;
}

static int by_value(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* glibc asks how much memory there is. */
static int sort_much(void)
{
    int values[4096];
    for (int i = 0; i < 4096; i++) {
        values[i] = (i * 2654) % 4096;
    }
    qsort(values, 4096, sizeof(values[0]), by_value);
    return values[0] <= values[1] && values[4094] <= values[4095] ? 0 : 1;
}

/* By number, where a library would do more than the call, or another one. */
static int wait_by_ppoll(void)
{
    struct timespec none = {0};
    return outcome(syscall(SYS_ppoll, NULL, 0, &none, NULL, 0));
}

static int wait_by_epoll_pwait(void)
{
    struct epoll_event event;
    return outcome(syscall(SYS_epoll_pwait, -1, &event, 1, 0, NULL, 0)); /* EBADF: it may */
}

static int ask_the_time_without_vdso(void)
{
    struct timespec t;
    return outcome(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t) +
                   syscall(SYS_clock_getres, CLOCK_MONOTONIC, &t) +
                   syscall(SYS_gettimeofday, NULL, NULL));
}

static int name_a_mapping(void)
{
    return outcome(prctl(PR_SET_VMA, 0, 0, 0, 0));
}

static int ask_for_f2fs(void)
{
    unsigned features;
    return outcome(ioctl(listener, F2FS_IOC_GET_FEATURES, &features));
}

static int type_into_the_terminal(void)
{
    return outcome(ioctl(STDIN_FILENO, TIOCSTI, "x"));
}

static int rename_file(void)
{
    return outcome(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", 0));
}

static int make_folder(void)
{
    return outcome(syscall(SYS_mkdirat, AT_FDCWD, "a", 0700));
}

static int list_folder(void)
{
    return outcome(syscall(SYS_getdents64, 0, NULL, 0));
}

static int make_memory_file(void)
{
    return outcome(syscall(SYS_memfd_create, "a", 0));
}

static int make_watch(void)
{
    return outcome(epoll_create1(EPOLL_CLOEXEC));
}

static int change_mask(void)
{
    return outcome(syscall(SYS_umask, 0));
}

static int load_module(void)
{
    return outcome(syscall(SYS_init_module, NULL, 0, ""));
}

static int use_bpf(void)
{
    return outcome(syscall(SYS_bpf, 0, NULL, 0));
}

static int use_keyring(void)
{
    return outcome(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
}

static int abort_self(void)
{
    signal(SIGABRT, SIG_DFL);
    abort();
}

/* glibc says what is wrong by writev(), then aborts. */
static int free_what_is_not_from_the_heap(void)
{
    static char room[64];
    char *volatile wrong = room + 8;
    signal(SIGABRT, SIG_DFL);
    close(STDERR_FILENO);
    free(wrong);
    return 0;
}

static int look_up_a_name(void)
{
    struct addrinfo *found = NULL;
    int rc = getaddrinfo("localhost", "80", NULL, &found);
    if (rc == 0) {
        freeaddrinfo(found);
    }
    return rc == 0 ? 0 : 1;
}

/* The errno that an attempt ended with, KILLED for SIGSYS, 1000 + signal for others, 999 when it could not enter. */
static int attempt(enum sp_process process, int (*try)(void))
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        if (sp_sandbox_enter(process, &config) != SP_OK) {
            _exit(255);
        }
        _exit(try() & 0x7F);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGSYS ? KILLED : 1000 + WTERMSIG(status);
    }
    return WEXITSTATUS(status) == 255 ? 999 : WEXITSTATUS(status);
}

#define TRY(fn, gate, keys, store) \
    {                              \
#fn, fn,                   \
        {                          \
            gate, keys, store      \
        }                          \
    }

struct trial {
    const char *name;
    int (*try)(void);
    int want[3]; /* gate, keys, store */
};

static void check_trials(const struct trial *trials, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (unsigned p = 0; p < 3; p++) {
            int have = attempt((enum sp_process)p, trials[i].try);
            if (have != trials[i].want[p]) {
                printf("process %u: %d, not %d\n", p, have, trials[i].want[p]);
            }
            SP_CHECK_CASE(have == trials[i].want[p], trials[i].name);
        }
    }
}

static void every_process_can_do_its_work_and_nothing_else(void)
{
    static const struct trial trials[] = {
        TRY(work, 0, 0, 0),
        TRY(make_threads, 0, KILLED, 0),
        TRY(sort_much, 0, 0, 0),
        TRY(wait_by_ppoll, 0, 0, 0),
        TRY(wait_by_epoll_pwait, EBADF, EBADF, EBADF),
        TRY(ask_the_time_without_vdso, 0, 0, 0),
        TRY(name_a_mapping, EINVAL, EINVAL, EINVAL),
        TRY(ask_for_f2fs, KILLED, ENOTTY, ENOTTY),
        TRY(type_into_the_terminal, KILLED, KILLED, KILLED),
        TRY(rename_file, KILLED, KILLED, KILLED),
        TRY(make_folder, KILLED, KILLED, KILLED),
        TRY(list_folder, KILLED, KILLED, KILLED),
        TRY(make_memory_file, KILLED, KILLED, KILLED),
        TRY(make_watch, KILLED, KILLED, KILLED),
        TRY(change_mask, KILLED, KILLED, KILLED),
        TRY(load_module, KILLED, KILLED, KILLED),
        TRY(use_bpf, KILLED, KILLED, KILLED),
        TRY(use_keyring, KILLED, KILLED, KILLED),
        TRY(open_state, EACCES, 0, EACCES), /* there lie the registry and the master key */
        TRY(make_in_state, EACCES, 0, EACCES),
        TRY(open_journal, EACCES, 0, 0),
        TRY(make_in_journal, EACCES, 0, 0),
        TRY(make_socket, KILLED, KILLED, 0),
        TRY(make_unix_socket, KILLED, KILLED, EACCES),
        TRY(make_raw_socket, KILLED, KILLED, KILLED),
        TRY(connect_by_number, KILLED, KILLED, ENOTSOCK),
        TRY(listen_socket, KILLED, KILLED, KILLED),
        TRY(accept_connection, EAGAIN, KILLED, KILLED),
        TRY(execute, KILLED, KILLED, KILLED),
        TRY(make_process, KILLED, KILLED, KILLED),
        TRY(make_process_by_vfork, KILLED, KILLED, KILLED),
        TRY(trace_parent, KILLED, KILLED, KILLED),
        TRY(read_parent, KILLED, KILLED, KILLED),
        TRY(kill_parent, KILLED, KILLED, KILLED),
        TRY(become_dumpable, KILLED, KILLED, KILLED),
        TRY(map_code, EACCES, EACCES, EACCES),
        TRY(turn_data_into_code, KILLED, KILLED, KILLED),
        TRY(raise_a_limit, KILLED, KILLED, KILLED),
        TRY(use_io_uring, KILLED, KILLED, KILLED),
        TRY(become_root, KILLED, KILLED, KILLED),
        TRY(abort_self, 1000 + SIGABRT, 1000 + SIGABRT, 1000 + SIGABRT),
        TRY(free_what_is_not_from_the_heap, 1000 + SIGABRT, 1000 + SIGABRT, 1000 + SIGABRT),
    };
    check_trials(trials, sizeof(trials) / sizeof(trials[0]));
}

/* 0: this kernel has none. */
static long landlock_version(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0UL, 1U);
}

static void files_beyond_the_state_are_out_of_reach(void)
{
    static const struct trial trials[] = {
        TRY(open_passwd, EACCES, EACCES, EACCES),
        TRY(make_elsewhere, EACCES, EACCES, EACCES),
        TRY(climb_out_of_state, EACCES, EACCES, EACCES),
        TRY(read_hosts, EACCES, EACCES, 0),
    };
    if (landlock_version() < 1) {
        printf("left out: this kernel has no Landlock\n");
        return;
    }
    check_trials(trials, sizeof(trials) / sizeof(trials[0]));
}

static void store_reaches_the_cloud_and_no_other_port(void)
{
    config.cloud.enabled = true;
    config.cloud.port = port;
    SP_CHECK_INT(attempt(SP_PROCESS_STORE, connect_to_cloud), 0);
    SP_CHECK_INT(attempt(SP_PROCESS_STORE, look_up_a_name), 0);
    if (landlock_version() >= 4) { /* the first that knows ports */
        SP_CHECK_INT(attempt(SP_PROCESS_STORE, connect_elsewhere), EACCES);
        SP_CHECK_INT(attempt(SP_PROCESS_STORE, bind_socket), EACCES);
    }
    config.cloud.enabled = false;
}

/* ---- names over TCP, which truncated answers lead to: calls that no other test makes ---- */

#define DNS_ADDRESS 0x7F350135U /* 127.53.1.53 */

static int look_up_over_tcp(void)
{
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    (void)res_init();
    _res.nscount = 1;
    _res.nsaddr_list[0] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(53)};
    _res.nsaddr_list[0].sin_addr.s_addr = htonl(DNS_ADDRESS);
    _res.options |=
        RES_USEVC | RES_STAYOPEN; /* the second name goes over the first one's connection */
    for (unsigned i = 0; i < 2; i++) {
        if (getaddrinfo(i == 0 ? "one.example." : "two.example.", "80", &hints, &found) != 0) {
            return 1;
        }
        struct sockaddr_in address;
        memcpy(&address, found->ai_addr, sizeof(address));
        freeaddrinfo(found);
        if (address.sin_addr.s_addr != htonl(0xC0000207U)) {
            return 2;
        }
    }
    return 0;
}

/* To each question on one connection the answer 192.0.2.7. */
static void serve_names(int server)
{
    static const uint8_t answer[] = {0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 7};
    uint8_t m[2 + 512 + sizeof(answer)];
    int fd = accept(server, NULL, NULL);
    while (fd >= 0 && recv(fd, m, 2, MSG_WAITALL) == 2 && m[0] < 2) {
        ssize_t len = m[0] * 256 + m[1];
        if (recv(fd, m + 2, (size_t)len, MSG_WAITALL) != len) {
            break;
        }
        m[4] |= 0x80; /* a response … */
        m[9] = 1;     /* … with one answer … */
        m[13] = 0;    /* … and without the extension that the question may end with */
        memset(m + 10, 0, 4);
        size_t end = 14;
        while (end < (size_t)len && m[end] != 0) {
            end += m[end] + 1U;
        }
        end += 5;
        memcpy(m + end, answer, sizeof(answer));
        size_t whole = end - 2U + sizeof(answer);
        m[0] = (uint8_t)(whole >> 8);
        m[1] = (uint8_t)whole;
        (void)!send(fd, m, whole + 2U, MSG_NOSIGNAL);
    }
    _exit(0);
}

static void store_looks_names_up_over_tcp_too(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53)};
    address.sin_addr.s_addr = htonl(DNS_ADDRESS);
    int on = 1;
    int server = socket(AF_INET, SOCK_STREAM, 0);
    (void)setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(server, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(server, 1) != 0) {
        printf("left out: no port 53 here: %s\n", strerror(errno));
        close(server);
        return;
    }
    pid_t pid = fork();
    if (pid == 0) {
        serve_names(server);
    }
    SP_CHECK_INT(attempt(SP_PROCESS_STORE, look_up_over_tcp), 0);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    close(server);
}

/* Real, effective and saved user of a process that has entered, as the kernel says; -1 when it could not enter. */
static int user_inside(enum sp_process process)
{
    int ready[2];
    int ids[3] = {-1, -1, -1};
    char path[64];
    char line[256];
    if (pipe(ready) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        bool in = sp_sandbox_enter(process, &config) == SP_OK;
        (void)!write(ready[1], in ? "y" : "n", 1);
        for (;;) {
            (void)!read(ready[0], line, 0); /* until it is killed */
        }
    }
    char in = 'n';
    (void)!read(ready[0], &in, 1);
    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "Uid: %d %d %d", &ids[0], &ids[1], &ids[2]);
    }
    (void)fclose(file);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    close(ready[0]);
    close(ready[1]);
    return in == 'y' && ids[0] == ids[1] && ids[1] == ids[2] ? ids[0] : -1;
}

static void root_is_given_up(void)
{
    if (geteuid() != 0) {
        return;
    }
    SP_CHECK_INT(chown(state_dir, 12345, 12345), 0);
    SP_CHECK_INT(user_inside(SP_PROCESS_KEYS), 12345);
    SP_CHECK(user_inside(SP_PROCESS_GATE) > 0);
    SP_CHECK_INT(chown(state_dir, 0, 0), 0);
}

static void an_unknown_user_is_an_error(void)
{
    if (geteuid() != 0) {
        return;
    }
    char nobody[] = "no-such-user-here";
    config.user = nobody;
    SP_CHECK_INT(attempt(SP_PROCESS_GATE, work), 999);
    config.user = NULL;
}

static void a_missing_state_folder_is_an_error(void)
{
    char missing[] = "/tmp/sallyport-sandbox-missing";
    config.state_dir = missing;
    SP_CHECK_INT(attempt(SP_PROCESS_KEYS, work), 999);
    config.state_dir = state_dir;
}

static void set_up(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (mkdtemp(state_dir) == NULL || listener < 0 ||
        bind(listener, (struct sockaddr *)&address, len) != 0 || listen(listener, 5) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &len) != 0) {
        abort();
    }
    port = ntohs(address.sin_port);
    (void)snprintf(state_file, sizeof(state_file), "%s/file", state_dir);
    close(open(state_file, O_RDWR | O_CREAT, 0600));
    (void)snprintf(journal_dir, sizeof(journal_dir), "%s/journal", state_dir);
    (void)snprintf(journal_file, sizeof(journal_file), "%s/file", journal_dir);
    if (mkdir(journal_dir, 0700) != 0) {
        abort();
    }
    close(open(journal_file, O_RDWR | O_CREAT, 0600));
    sp_log_init("test", SP_LOG_ERROR);
}

static const struct sp_test tests[] = {
    SP_TEST(every_process_can_do_its_work_and_nothing_else),
    SP_TEST(files_beyond_the_state_are_out_of_reach),
    SP_TEST(store_reaches_the_cloud_and_no_other_port),
    SP_TEST(store_looks_names_up_over_tcp_too),
    SP_TEST(root_is_given_up),
    SP_TEST(an_unknown_user_is_an_error),
    SP_TEST(a_missing_state_folder_is_an_error),
};

int main(void)
{
    set_up();
    int rc = sp_test_run_all(tests, sizeof(tests) / sizeof(tests[0]));
    unlink(journal_file);
    rmdir(journal_dir);
    unlink(state_file);
    rmdir(state_dir);
    return rc;
}
