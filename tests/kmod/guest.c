// SPDX-License-Identifier: MIT
/*
 * What the kernel module promises, asked from inside a machine that has it. A static program
 * for an initramfs; run as root with every device bound that the machine has to offer:
 *
 *   guest                 all rows that the devices allow; exit status 1 when one fails
 *   guest unsafe          the rows for a machine without a translating IOMMU
 *   guest fuzz N SEED     N calls with hostile arguments
 *   guest compat          the rows that a 32-bit process can have (built with -m32)
 *
 * Any PCI device will do. QEMU's `edu` adds DMA and an interrupt that an independent device
 * makes, a RAM BAR (`ivshmem-plain`) memory that can be compared. One line per row: "ok",
 * "FAIL" or "skip" with the reason.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/userfaultfd.h>

#include "kmod/ingot_uapi.h"

#define MAX_DEVICES 8
#define PAGE 4096ul

static int failures, rows;
static bool row_failed, row_said;  // of the row that runs
static const char* row;

static void say(const char* verdict, const char* format, ...) {
  va_list va;
  va_start(va, format);
  row_said = true;
  printf("%-4s %s", verdict, row);
  if (format) printf(": "), vprintf(format, va);
  printf("\n");
  fflush(stdout);
  va_end(va);
}

#define EXPECT(cond)                                                                                           \
  do {                                                                                                         \
    if (!(cond)) row_failed = true, failures++, say("FAIL", "line %d: %s (errno %d)", __LINE__, #cond, errno); \
  } while (0)
/* The call fails, and with this error. */
#define REFUSED(call, error)                                                                 \
  do {                                                                                       \
    errno = 0;                                                                               \
    long r_ = (long)(call);                                                                  \
    if (r_ != -1 || errno != (error))                                                        \
      row_failed = true, failures++,                                                         \
      say("FAIL", "line %d: %s = %ld, errno %d, not %d", __LINE__, #call, r_, errno, error); \
  } while (0)

struct dev {
  char node[32], pci[32];
  struct ingot_info info;
  uint64_t dma_bar;
};
static struct dev devs[MAX_DEVICES];
static int num_devs;

static int node_open(const struct dev* d) { return open(d->node, O_RDWR | O_CLOEXEC); }
static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static struct dev* find(uint16_t vendor, uint16_t device) {
  for (int i = 0; i < num_devs; i++)
    if (devs[i].info.vendor == vendor && devs[i].info.device == device) return &devs[i];
  return NULL;
}
static bool write_file(const char* path, const char* text) {
  int fd = open(path, O_WRONLY);
  bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (fd >= 0) close(fd);
  return ok;
}
static long status_kb(const char* key) {
  FILE* f = fopen("/proc/self/status", "r");
  char line[256];
  long kb = -1;
  while (f && fgets(line, sizeof line, f))
    if (!strncmp(line, key, strlen(key))) kb = atol(line + strlen(key) + 1);
  if (f) fclose(f);
  return kb;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */
static int bar_of(int fd, uint32_t index, struct ingot_bar* b) {
  *b = (struct ingot_bar){.argsz = sizeof *b, .index = index};
  return ioctl(fd, INGOT_GET_BAR, b);
}
static int master(int fd, int on) {
  struct ingot_cfg_op a = {.argsz = sizeof a, .op = INGOT_CFG_MASTER, .arg = (uint32_t)on};
  return ioctl(fd, INGOT_CFG_OP, &a);
}
static uint32_t mem_alloc(int fd, uint64_t size, uint32_t flags, uint64_t* offset) {
  struct ingot_mem_alloc a = {.argsz = sizeof a, .flags = flags, .size = size};
  if (ioctl(fd, INGOT_MEM_ALLOC, &a)) return 0;
  if (offset) *offset = a.mmap_offset;
  return a.handle;
}
static uint32_t mem_pin(int fd, void* va, uint64_t size, uint32_t flags) {
  struct ingot_mem_pin a = {.argsz = sizeof a, .flags = flags, .va = (uintptr_t)va, .size = size};
  return ioctl(fd, INGOT_MEM_PIN, &a) ? 0 : a.handle;
}
static int mem_free(int fd, uint32_t handle) {
  struct ingot_mem_free a = {.argsz = sizeof a, .handle = handle};
  return ioctl(fd, INGOT_MEM_FREE, &a);
}
static int segs(int fd, uint32_t handle, struct ingot_seg* out, uint32_t count) {
  struct ingot_mem_segs a = {.argsz = sizeof a, .handle = handle, .count = count, .segs = (uintptr_t)out};
  return ioctl(fd, INGOT_MEM_SEGS, &a) ? -1 : (int)a.total;
}
static int reset(int fd, uint32_t method, uint32_t flags) {
  struct ingot_reset a = {.argsz = sizeof a, .flags = flags, .method = method};
  return ioctl(fd, INGOT_RESET, &a);
}
static int event_get(int fd, struct ingot_event_get* a) {
  *a = (struct ingot_event_get){.argsz = sizeof *a};
  return ioctl(fd, INGOT_EVENT_GET, a);
}
static int irq_set(int fd, uint32_t first, int32_t efd) {
  struct ingot_irq_set a = {.argsz = sizeof a, .first = first, .count = 1, .fds = (uintptr_t)&efd};
  return ioctl(fd, INGOT_IRQ_SET, &a);
}
static void* map(int fd, uint64_t offset, uint64_t size) {
  return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
}
/* The first BAR that can be mapped, or -1. */
static int any_bar(int fd, struct ingot_bar* b) {
  for (uint32_t i = 0; i < INGOT_NUM_BARS; i++)
    if (!bar_of(fd, i, b) && (b->bar_flags & INGOT_BAR_MMAP)) return (int)i;
  return -1;
}

static sigjmp_buf jump;
static void on_bus(int sig) { siglongjmp(jump, sig); }
/* Which signal touching it raises, or 0. */
static int touch(volatile void* p) {
  struct sigaction sa = {.sa_handler = on_bus}, bus, segv;
  sigaction(SIGBUS, &sa, &bus);
  sigaction(SIGSEGV, &sa, &segv);
  int sig = sigsetjmp(jump, 1);
  if (!sig) (void)*(volatile uint32_t*)p;
  sigaction(SIGBUS, &bus, NULL);
  sigaction(SIGSEGV, &segv, NULL);
  return sig;
}
static int wait_for(pid_t pid) {
  int status;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- rows: arguments ----------------------------------------------------------------------------------------------
 */
static void arguments(struct dev* d) {
  int fd = node_open(d);
  EXPECT(fd >= 0);
  struct {
    struct ingot_info info;
    uint8_t tail[16];
  } big = {.info = {.argsz = sizeof big}};
  EXPECT(!ioctl(fd, INGOT_GET_INFO, &big));
  EXPECT(big.info.abi_major == INGOT_ABI_MAJOR && big.info.argsz == sizeof big);
  big.tail[15] = 1;
  REFUSED(ioctl(fd, INGOT_GET_INFO, &big), E2BIG);
  struct ingot_info i = {.argsz = sizeof i - 1};
  REFUSED(ioctl(fd, INGOT_GET_INFO, &i), EINVAL);
  i = (struct ingot_info){.argsz = sizeof i, .flags = 1};
  REFUSED(ioctl(fd, INGOT_GET_INFO, &i), EINVAL);
  i = (struct ingot_info){.argsz = 1u << 20};
  REFUSED(ioctl(fd, INGOT_GET_INFO, &i), E2BIG);
  REFUSED(ioctl(fd, INGOT_GET_INFO, (void*)8), EFAULT);
  REFUSED(ioctl(fd, _IO(INGOT_IOC_TYPE, 0x7e), &i), ENOTTY);
  REFUSED(ioctl(fd, 0x5401, &i), ENOTTY);
  struct ingot_cfg_read c = {.argsz = sizeof c, .offset = 0, .width = 2};
  EXPECT(!ioctl(fd, INGOT_CFG_READ, &c) && c.value == d->info.vendor);
  c = (struct ingot_cfg_read){.argsz = sizeof c, .offset = 4096, .width = 4};
  REFUSED(ioctl(fd, INGOT_CFG_READ, &c), EINVAL);
  c = (struct ingot_cfg_read){.argsz = sizeof c, .offset = 2, .width = 4};
  REFUSED(ioctl(fd, INGOT_CFG_READ, &c), EINVAL);
  REFUSED(mem_free(fd, 0), EINVAL);
  REFUSED(mem_free(fd, 77), ENOENT);
  struct ingot_mem_pin p = {.argsz = sizeof p, .va = ~0ull << 12, .size = 2 * PAGE};
  REFUSED(ioctl(fd, INGOT_MEM_PIN, &p), EINVAL);
  p = (struct ingot_mem_pin){.argsz = sizeof p, .va = 1ull << 63, .size = PAGE};
  REFUSED(ioctl(fd, INGOT_MEM_PIN, &p), EFAULT);
  close(fd);
}

static void ownership(struct dev* d) {
  int fd = node_open(d);
  REFUSED(node_open(d), EBUSY);
  close(fd);
  double t = now();
  fd = node_open(d);
  EXPECT(fd >= 0 && now() - t < 1);
  EXPECT(syscall(SYS_delete_module, "ingot", O_NONBLOCK) == -1 && (errno == EWOULDBLOCK || errno == EBUSY));
  close(fd);
}

static void mappings(struct dev* d) {
  int fd = node_open(d);
  struct ingot_bar b;
  int index = any_bar(fd, &b);
  if (index < 0) return say("skip", "no BAR to map"), (void)close(fd);
  void* p = map(fd, b.off_uc, PAGE);
  EXPECT(p != MAP_FAILED && !touch(p));
  REFUSED(map(fd, b.off_uc + b.size, PAGE), EINVAL);
  REFUSED(map(fd, b.off_uc, b.size + PAGE), EINVAL);
  REFUSED(map(fd, 6ull << INGOT_MMAP_SHIFT, PAGE), EINVAL);
  REFUSED(map(fd, 17ull << INGOT_MMAP_SHIFT, PAGE), EINVAL);
  REFUSED(map(fd, (1ull << 62), PAGE), EINVAL);
  REFUSED(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, (off_t)b.off_uc), EINVAL);
  REFUSED(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, (off_t)b.off_uc), EINVAL);
  REFUSED(mprotect(p, PAGE, PROT_READ | PROT_EXEC), EACCES);
  REFUSED(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
  EXPECT(!mem_pin(fd, p, PAGE, 0) && errno == EFAULT);
  pid_t child = fork();
  if (!child) _exit(touch(p) == SIGSEGV ? 0 : 1);
  EXPECT(wait_for(child) == 0);
  if (b.bar_flags & INGOT_BAR_WC) REFUSED(map(fd, b.off_wc, PAGE), EBUSY);
  close(fd);
  EXPECT(!touch(p)); /* the mapping holds the file */
  munmap(p, PAGE);
}

/* The memory type is the page table's business: debugfs shows what was reserved. */
static void write_combining(struct dev* d) {
  int fd = node_open(d);
  struct ingot_bar b = {0};
  uint32_t i;
  for (i = 0; i < INGOT_NUM_BARS; i++)
    if (!bar_of(fd, i, &b) && (b.bar_flags & INGOT_BAR_WC)) break;
  if (i == INGOT_NUM_BARS) return say("skip", "no prefetchable BAR"), (void)close(fd);
  uint64_t size = b.size < (8 << 20) ? b.size : 8 << 20;
  volatile uint32_t* p = map(fd, b.off_wc, size);
  EXPECT(p != MAP_FAILED);
  REFUSED(map(fd, b.off_uc, PAGE), EBUSY);
  double t = now();
  for (uint64_t k = 0; k < size / 4; k += 1024) p[k] = (uint32_t)k * 2654435761u;
  bool same = true;
  for (uint64_t k = 0; k < size / 4; k += 1024) same &= p[k] == (uint32_t)k * 2654435761u;
  if (d->info.vendor == 0x1af4) EXPECT(same);
  FILE* f = fopen("/sys/kernel/debug/x86/pat_memtype_list", "r");
  char line[160];
  bool wc = !f;
  while (f && fgets(line, sizeof line, f)) wc |= strstr(line, "write-combining") != NULL;
  if (f) fclose(f);
  EXPECT(wc);
  if (!row_failed) say("ok", "%d pages in %.0f us", (int)(size / PAGE), 1e6 * (now() - t));
  munmap((void*)p, size);
  close(fd);
  fd = node_open(d);
  p = map(fd, b.off_uc, PAGE);
  EXPECT(p != MAP_FAILED && !touch((void*)p)); /* the next session decides anew */
  munmap((void*)p, PAGE);
  close(fd);
}

/* ---- rows: memory ---------------------------------------------------------------------------------------------------
 */
static void memory(struct dev* d) {
  int fd = node_open(d);
  uint64_t size = 4 << 20, offset;
  const uint32_t kinds[] = {0, INGOT_MEM_CONTIG, INGOT_MEM_HUGE};
  for (int k = 0; k < 3; k++) {
    if (k == 1) size = 1 << 20;
    if (k == 2) size = 2 << 20;
    uint32_t h = mem_alloc(fd, size, kinds[k], &offset);
    if (!h && k && errno == ENOMEM) continue; /* fragmentation is not a fault */
    EXPECT(h);
    struct ingot_seg s[64];
    int n = segs(fd, h, s, 64);
    EXPECT(n > 0 && (k != 1 || n == 1));
    uint64_t* p = map(fd, offset, size);
    EXPECT(p != MAP_FAILED);
    bool zero = true;
    for (uint64_t i = 0; i < size / 8; i++) zero &= !p[i];
    EXPECT(zero);
    memset(p, 0xA5, size);
    REFUSED(mem_free(fd, h), EBUSY);
    REFUSED(map(fd, offset + PAGE, size), EINVAL);
    munmap(p, size / 2);
    REFUSED(mem_free(fd, h), EBUSY);
    munmap((char*)p + size / 2, size / 2);
    EXPECT(!mem_free(fd, h));
    REFUSED(mem_free(fd, h), ENOENT);
    REFUSED(map(fd, offset, size), EINVAL);
  }
  EXPECT(!mem_alloc(fd, 0, 0, 0) && errno == EINVAL);
  EXPECT(!mem_alloc(fd, 100, 0, 0) && errno == EINVAL);
  EXPECT(!mem_alloc(fd, 8 << 20, INGOT_MEM_CONTIG, 0) && errno == EINVAL);
  EXPECT(!mem_alloc(fd, 4096, INGOT_MEM_HUGE, 0) && errno == EINVAL);
  EXPECT(!mem_alloc(fd, 4096, 1u << 31, 0) && errno == EINVAL);
  struct ingot_mem_alloc a = {.argsz = sizeof a, .flags = INGOT_MEM_NODE, .size = PAGE, .numa_node = 1 << 30};
  REFUSED(ioctl(fd, INGOT_MEM_ALLOC, &a), EINVAL);
  close(fd);
}

static void pinning(struct dev* d) {
  int fd = node_open(d);
  uint64_t size = 8 << 20;
  char* p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t h = mem_pin(fd, p, size, 0);
  EXPECT(h);
  EXPECT(status_kb("VmPin:") == (long)(size >> 10));
  struct ingot_seg s[4096];
  int n = segs(fd, h, s, 4096);
  uint64_t total = 0;
  for (int i = 0; i < n && i < 4096; i++) total += s[i].len;
  EXPECT(n > 0 && total == size);
  EXPECT(!mem_free(fd, h));
  EXPECT(status_kb("VmPin:") == 0);
  munmap(p + PAGE, PAGE);
  EXPECT(!mem_pin(fd, p, 4 * PAGE, 0) && errno == EFAULT);
  char* ro = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(!mem_pin(fd, ro, PAGE, 0) && errno == EFAULT);
  h = mem_pin(fd, ro, PAGE, INGOT_PIN_READONLY);
  EXPECT(h);
  EXPECT(!mem_pin(fd, p + 1, PAGE, 0) && errno == EINVAL);
  EXPECT(status_kb("VmPin:") == 4);
  close(fd);
  EXPECT(status_kb("VmPin:") == 0);
  munmap(p, size);
  munmap(ro, PAGE);
}

/* As somebody with nothing: the limit holds, and the node's mode decides who comes in. */
static void unprivileged(struct dev* d) {
  chmod(d->node, 0666);
  pid_t child = fork();
  if (!child) {
    struct rlimit lim = {64 << 10, 64 << 10};
    setrlimit(RLIMIT_MEMLOCK, &lim);
    if (setgid(65534) || setuid(65534)) _exit(1);
    int fd = node_open(d);
    if (fd < 0) _exit(2);
    char* p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem_pin(fd, p, 1 << 20, 0) || errno != ENOMEM) _exit(3);
    uint32_t h = mem_pin(fd, p, 64 << 10, 0);
    if (!h) _exit(4);
    if (mem_alloc(fd, PAGE, 0, 0) || errno != ENOMEM) _exit(5);
    if (mem_free(fd, h)) _exit(6);
    if (!mem_alloc(fd, 64 << 10, 0, 0)) _exit(7);
    _exit(0);
  }
  int code = wait_for(child);
  EXPECT(code == 0);
  if (code) say("FAIL", "the child stopped at %d", code);
  chmod(d->node, 0600);
}

static void leaks(struct dev* d) {
  uint64_t size = 32 << 20, offset;
  for (int round = 0; round < 3; round++) {
    int fd = node_open(d);
    EXPECT(mem_alloc(fd, size, 0, &offset));
    uint64_t *p = map(fd, offset, size), any = 0;
    for (uint64_t i = 0; i < size / 8; i++) any |= p[i];
    EXPECT(!any);
    memset(p, 0xEE, size);
    munmap(p, size);
    close(fd);
  }
}

/* ---- rows: lifetime
 * -------------------------------------------------------------------------------------------------- */
static void inheritance(struct dev* d) {
  /* A child inherits the file; the opener dies; the device is free although the child lives. */
  int ready[2], stop[2];
  EXPECT(!pipe(ready) && !pipe(stop));
  pid_t opener = fork();
  if (!opener) {
    int fd = open(d->node, O_RDWR);
    if (fork()) {
      char c;
      if (read(ready[0], &c, 1) != 1) _exit(1);
      _exit(0);
    }
    if (write(ready[1], "x", 1) != 1) _exit(1);
    char c;
    if (read(stop[0], &c, 1) != 1) _exit(1);
    struct ingot_info i = {.argsz = sizeof i};
    if (ioctl(fd, INGOT_GET_INFO, &i) != -1 || errno != ENODEV) _exit(1);
    struct ingot_bar b;
    if (map(fd, 0, PAGE) != MAP_FAILED || bar_of(fd, 0, &b) != -1) _exit(1);
    if (write(ready[1], "y", 1) != 1) _exit(1);
    _exit(0);
  }
  EXPECT(wait_for(opener) == 0);
  int fd = node_open(d);
  EXPECT(fd >= 0);
  char c = 0;
  EXPECT(write(stop[1], "x", 1) == 1 && read(ready[0], &c, 1) == 1 && c == 'y');
  struct ingot_info i = {.argsz = sizeof i};
  usleep(20000);
  EXPECT(!ioctl(fd, INGOT_GET_INFO, &i) && i.state != INGOT_STATE_FREE); /* closing the old file did nothing to us */
  close(fd);
  close(ready[0]), close(ready[1]), close(stop[0]), close(stop[1]);
}

static void killed(struct dev* d) {
  double worst = 0;
  for (int round = 0; round < 20; round++) {
    pid_t child = fork();
    if (!child) {
      int fd = node_open(d);
      char* p = mmap(NULL, 32 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      master(fd, 1);
      for (;;) {
        uint32_t h = mem_pin(fd, p, 32 << 20, 0), g = mem_alloc(fd, 4 << 20, 0, 0);
        if (round & 1) mem_free(fd, h), mem_free(fd, g);
        if (round % 5 == 4) reset(fd, INGOT_RESET_AUTO, INGOT_RESET_KEEP_MEM);
        if (!h && !g) mem_free(fd, 1);
      }
    }
    usleep((useconds_t)(round * 7919 % 50000));
    kill(child, SIGKILL);
    EXPECT(wait_for(child) == 128 + SIGKILL);
    double t = now();
    int fd = node_open(d);
    EXPECT(fd >= 0);
    struct ingot_cfg_read c = {.argsz = sizeof c, .offset = 4, .width = 2};
    EXPECT(!ioctl(fd, INGOT_CFG_READ, &c) && !(c.value & 4)); /* bus mastering is off */
    if (now() - t > worst) worst = now() - t;
    close(fd);
  }
  EXPECT(worst < 1);
  char path[128], text[32] = "?";
  snprintf(path, sizeof path, "/sys/class/ingot/%s/bytes_pinned", strrchr(d->node, '/') + 1);
  FILE* f = fopen(path, "r");
  EXPECT(f && fgets(text, sizeof text, f));
  if (f) fclose(f);
  EXPECT(!strcmp(text, "0\n"));
}

static void resets(struct dev* d) {
  int fd = node_open(d);
  struct ingot_bar b;
  int index = any_bar(fd, &b);
  uint64_t offset;
  uint32_t h = mem_alloc(fd, PAGE, 0, &offset);
  uint32_t *bar = index < 0 ? NULL : map(fd, b.off_uc, PAGE), *p = map(fd, offset, PAGE);
  if (bar) touch(bar);
  p[0] = 42;
  if (reset(fd, INGOT_RESET_AUTO, INGOT_RESET_KEEP_MEM)) {
    EXPECT(errno == ENOTTY);
    say("skip", "no reset");
  } else {
    EXPECT(p[0] == 42 && (!bar || !touch(bar)));
    struct ingot_info i = {.argsz = sizeof i};
    EXPECT(!ioctl(fd, INGOT_GET_INFO, &i) && i.generation > d->info.generation && i.state == INGOT_STATE_OWNED);
    EXPECT(!reset(fd, INGOT_RESET_AUTO, 0));
    EXPECT(touch(p) == SIGBUS && (!bar || !touch(bar)));
    REFUSED(mem_free(fd, h), ENOENT);
    if (i.caps & INGOT_CAP_FLR)
      EXPECT(!reset(fd, INGOT_RESET_FLR, 0));
    else
      REFUSED(reset(fd, INGOT_RESET_FLR, 0), ENOTTY);
    /* From outside, while we own it. */
    char path[96];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/reset", d->pci);
    struct ingot_event_get e;
    int efd = eventfd(0, EFD_NONBLOCK);
    struct ingot_event_set s = {.argsz = sizeof s, .fd = efd};
    EXPECT(!ioctl(fd, INGOT_EVENT_SET, &s));
    if (write_file(path, "1")) {
      struct pollfd pf[2] = {{.fd = efd, .events = POLLIN}, {.fd = fd, .events = POLLPRI}};
      EXPECT(poll(pf, 2, 1000) == 2);
      EXPECT(!event_get(fd, &e) && e.reasons == INGOT_EVENT_ADMIN_RESET && e.state == INGOT_STATE_OWNED);
      EXPECT(!event_get(fd, &e) && !e.reasons);
      EXPECT(!bar || !touch(bar));
    }
    close(efd);
  }
  close(fd);
  if (bar) munmap(bar, PAGE);
  munmap(p, PAGE);
}

/* Forced error paths: only a module built with INGOT_DEBUG=1 has them. */
static void injected(struct dev* d) {
  struct ingot_debug_inject in = {.argsz = sizeof in, .faults = INGOT_INJECT_BOUNCE};
  int fd = node_open(d);
  if (!(d->info.caps & INGOT_CAP_DEBUG)) {
    REFUSED(ioctl(fd, INGOT_DEBUG_INJECT, &in), ENOTTY);
    say("skip", "not a debug module");
    close(fd);
    return;
  }
  EXPECT(!ioctl(fd, INGOT_DEBUG_INJECT, &in));
  EXPECT(!mem_alloc(fd, PAGE, 0, 0) && errno == EOPNOTSUPP);
  in.faults = INGOT_INJECT_PENDING;
  EXPECT(!ioctl(fd, INGOT_DEBUG_INJECT, &in));
  REFUSED(master(fd, 0), ETIMEDOUT);
  in.faults = 0;
  EXPECT(!ioctl(fd, INGOT_DEBUG_INJECT, &in));
  if (reset(fd, INGOT_RESET_AUTO, 0)) {
    EXPECT(errno == ENOTTY);
    say("skip", "no reset");
    close(fd);
    return;
  }
  in.faults = INGOT_INJECT_RESET;
  EXPECT(!ioctl(fd, INGOT_DEBUG_INJECT, &in));
  struct ingot_bar b;
  int index = any_bar(fd, &b);
  void* bar = index < 0 ? NULL : map(fd, b.off_uc, PAGE);
  REFUSED(reset(fd, INGOT_RESET_AUTO, INGOT_RESET_KEEP_MEM), EIO);
  struct ingot_event_get e;
  EXPECT(!event_get(fd, &e) && e.state == INGOT_STATE_LOST && (e.reasons & INGOT_EVENT_ERROR));
  EXPECT(!mem_alloc(fd, PAGE, 0, 0) && errno == EIO);
  REFUSED(master(fd, 1), EIO);
  struct pollfd pf = {.fd = fd};
  EXPECT(poll(&pf, 1, 0) == 1 && (pf.revents & POLLERR));
  if (bar) EXPECT(touch(bar) == SIGBUS);
  close(fd);
  if (bar) munmap(bar, PAGE);
  /* Without translation a device that could not be stopped is never opened again. */
  fd = node_open(d);
  if (d->info.dma_mode < INGOT_DMA_LAZY) {
    EXPECT(fd == -1 && errno == EIO);
    return;
  }
  EXPECT(!event_get(fd, &e) && e.state == INGOT_STATE_LOST);
  EXPECT(!reset(fd, INGOT_RESET_AUTO, 0) && mem_alloc(fd, PAGE, 0, 0));
  close(fd);
}

/* Everything at once, for two seconds: nothing may hang, and nothing may be left. */
static struct {
  int fd;
  volatile bool stop;
  char* pool;
} race;
static void* race_memory(void* arg) {
  (void)arg;
  for (uint64_t offset; !race.stop;) {
    uint32_t h = mem_alloc(race.fd, 64 << 10, 0, &offset);
    void* p = h ? map(race.fd, offset, 64 << 10) : MAP_FAILED;
    if (p != MAP_FAILED)
      madvise(p, 64 << 10, 23 /* MADV_POPULATE_WRITE, fails where a touch is SIGBUS */), munmap(p, 64 << 10);
    mem_free(race.fd, h);
  }
  return NULL;
}
static void* race_pins(void* arg) {
  (void)arg;
  while (!race.stop) {
    uint32_t h = mem_pin(race.fd, race.pool, 1 << 20, 0);
    struct ingot_seg s[4];
    segs(race.fd, h, s, 4);
    mem_free(race.fd, h);
    mem_free(race.fd, h + 1);
  }
  return NULL;
}
static void* race_bars(void* arg) {
  struct ingot_bar b;
  (void)arg;
  while (!race.stop) {
    int index = any_bar(race.fd, &b);
    void* p = index < 0 ? MAP_FAILED : map(race.fd, b.off_uc, PAGE);
    if (p != MAP_FAILED) madvise(p, PAGE, 22), munmap(p, PAGE);
    master(race.fd, 1);
  }
  return NULL;
}
static void* race_resets(void* arg) {
  (void)arg;
  for (int n = 0; !race.stop; n++) reset(race.fd, INGOT_RESET_AUTO, n & 1 ? INGOT_RESET_KEEP_MEM : 0), usleep(3000);
  return NULL;
}
static bool bind_to(struct dev* d, bool on);
static void races(struct dev* d) {
  for (int round = 0; round < 3; round++) {
    pid_t child = fork();
    if (!child) {
      void* (*bodies[])(void*) = {race_memory, race_pins, race_bars, race_resets};
      pthread_t t[4];
      race.fd = node_open(d);
      if (race.fd < 0) _exit(1);
      race.pool = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, bodies[i], NULL);
      usleep(600000);
      race.stop = round != 1;
      for (int i = 0; i < 4; i++) pthread_join(t[i], NULL);
      _exit(0);
    }
    usleep(300000);
    if (round == 1) kill(child, SIGKILL);
    if (round == 2) EXPECT(bind_to(d, false));
    EXPECT(wait_for(child) == (round == 1 ? 128 + SIGKILL : 0));
    if (round == 2) EXPECT(bind_to(d, true));
    usleep(20000);
    int fd = node_open(d);
    EXPECT(fd >= 0);
    close(fd);
  }
}

static void* stalled_pin(void* arg) {
  (void)arg;
  mem_pin(race.fd, race.pool, 1 << 19, 0);
  return NULL;
}
static void* stalled_argument(void* arg) {
  (void)arg;
  ioctl(race.fd, INGOT_GET_INFO, race.pool + (1 << 19));
  return NULL;
}
/* Memory whose page faults nobody answers: who pins it waits, and holds up nobody else. */
static void stalled(struct dev* d) {
  int uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  if (uffd < 0) return say("skip", "no userfaultfd (errno %d)", errno);
  struct uffdio_api api = {.api = UFFD_API};
  char* p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register reg = {.range = {(uintptr_t)p, 1 << 20}, .mode = UFFDIO_REGISTER_MODE_MISSING};
  EXPECT(!ioctl(uffd, UFFDIO_API, &api) && !ioctl(uffd, UFFDIO_REGISTER, &reg));
  int fd = node_open(d);
  pthread_t t[2];
  race.fd = fd;
  race.pool = p;
  EXPECT(!pthread_create(&t[0], NULL, stalled_pin, NULL));
  EXPECT(!pthread_create(&t[1], NULL, stalled_argument, NULL));
  usleep(50000);
  double began = now();
  struct ingot_event_get e;
  EXPECT(mem_alloc(fd, PAGE, 0, 0) && !event_get(fd, &e) && !master(fd, 0));
  EXPECT(!reset(fd, INGOT_RESET_AUTO, 0) || errno == ENOTTY);
  EXPECT(bind_to(d, false));
  EXPECT(now() - began < 1);
  close(uffd); /* its faults are ordinary ones from here on */
  pthread_join(t[0], NULL);
  pthread_join(t[1], NULL);
  close(fd);
  munmap(p, 1 << 20);
  EXPECT(bind_to(d, true));
  EXPECT(status_kb("VmPin:") == 0);
}

static bool bind_to(struct dev* d, bool on) {
  if (!write_file(on ? "/sys/bus/pci/drivers/ingot/bind" : "/sys/bus/pci/drivers/ingot/unbind", d->pci)) return false;
  for (int n = 0; on && n < 64; n++) { /* it may have another number now */
    char link[96], target[256];
    snprintf(link, sizeof link, "/sys/class/ingot/ingot%d/device", n);
    ssize_t len = readlink(link, target, sizeof target - 1);
    if (len < 0) continue;
    target[len] = 0;
    if (!strcmp(strrchr(target, '/') + 1, d->pci)) snprintf(d->node, sizeof d->node, "/dev/ingot%d", n);
  }
  usleep(50000); /* devtmpfs */
  return true;
}

static void unbinding(struct dev* d) {
  int fd = node_open(d);
  struct ingot_bar b;
  int index = any_bar(fd, &b);
  uint64_t offset;
  EXPECT(mem_alloc(fd, PAGE, 0, &offset));
  uint32_t *bar = index < 0 ? NULL : map(fd, b.off_uc, PAGE), *p = map(fd, offset, PAGE);
  if (bar) EXPECT(!touch(bar));
  EXPECT(!touch(p));
  char* anon = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT(mem_pin(fd, anon, 1 << 20, 0));
  double t = now();
  EXPECT(bind_to(d, false));
  EXPECT(now() - t < 2);
  if (bar) EXPECT(touch(bar) == SIGBUS);
  EXPECT(touch(p) == SIGBUS);
  struct ingot_event_get e;
  EXPECT(!event_get(fd, &e) && (e.reasons & INGOT_EVENT_REMOVED) && e.state == INGOT_STATE_GONE);
  struct ingot_info i = {.argsz = sizeof i};
  EXPECT(!ioctl(fd, INGOT_GET_INFO, &i) && i.state == INGOT_STATE_GONE);
  struct pollfd pf = {.fd = fd};
  EXPECT(poll(&pf, 1, 0) == 1 && (pf.revents & POLLHUP));
  REFUSED(reset(fd, 0, 0), ENODEV);
  REFUSED(master(fd, 1), ENODEV);
  REFUSED(mem_free(fd, 1), ENODEV);
  REFUSED(irq_set(fd, 0, -1), ENODEV);
  EXPECT(bind_to(d, true)); /* while the old file is open */
  usleep(50000);
  int again = node_open(d);
  EXPECT(again >= 0);
  close(fd);
  EXPECT(!ioctl(again, INGOT_GET_INFO, &i) && i.state == INGOT_STATE_OWNED);
  close(again);
  if (bar) munmap(bar, PAGE);
  munmap(p, PAGE);
  munmap(anon, 1 << 20);
  EXPECT(status_kb("VmPin:") == 0);
}

/* ---- rows: the edu device
 * -------------------------------------------------------------------------------------------- */
enum { EDU_ID = 0, EDU_FACTORIAL = 2, EDU_STATUS = 8, EDU_IRQ = 9, EDU_RAISE = 24, EDU_ACK = 25 };

static bool edu_dma(volatile uint32_t* bar, uint64_t src, uint64_t dst, uint64_t count, uint64_t cmd) {
  volatile uint64_t* r = (volatile uint64_t*)bar;
  r[0x80 / 8] = src, r[0x88 / 8] = dst, r[0x90 / 8] = count, r[0x98 / 8] = cmd | 1;
  for (double t = now(); now() - t < 3;)
    if (!(r[0x98 / 8] & 1)) return true;
  return false;
}

static void edu(struct dev* d) {
  int fd = node_open(d);
  struct ingot_bar b;
  any_bar(fd, &b);
  volatile uint32_t* bar = map(fd, b.off_uc, b.size);
  EXPECT((bar[EDU_ID] & 0xffff) == 0x00ed);

  int efd = eventfd(0, EFD_NONBLOCK);
  EXPECT(!irq_set(fd, 0, efd));
  REFUSED(irq_set(fd, d->info.num_irqs, efd), EINVAL);
  REFUSED(irq_set(fd, 0, fd), EINVAL);
  REFUSED(irq_set(fd, 0, 99), EBADF);
  EXPECT(!master(fd, 1));
  for (int i = 0; i < 100; i++) {
    bar[EDU_RAISE] = 1;
    struct pollfd pf = {.fd = efd, .events = POLLIN};
    uint64_t n;
    EXPECT(poll(&pf, 1, 1000) == 1 && read(efd, &n, 8) == 8 && n == 1);
    bar[EDU_ACK] = 1;
  }
  struct ingot_irq_count count;
  struct ingot_irq_info info = {.argsz = sizeof info, .count = 1, .counts = (uintptr_t)&count};
  EXPECT(!ioctl(fd, INGOT_IRQ_INFO, &info) && count.count == 100 && !count.masked);

  /* A storm is stopped, reported, and starts again when asked. */
  if (write_file("/sys/module/ingot/parameters/irq_burst", "4")) {
    double t = now();
    do {
      bar[EDU_RAISE] = 1, bar[EDU_ACK] = 1;
      EXPECT(!ioctl(fd, INGOT_IRQ_INFO, &info));
    } while (!count.masked && now() - t < 3);
    EXPECT(count.masked);
    struct ingot_event_get e;
    EXPECT(!event_get(fd, &e) && (e.reasons & INGOT_EVENT_IRQ_MASKED));
    EXPECT(write_file("/sys/module/ingot/parameters/irq_burst", "20000"));
    EXPECT(!irq_set(fd, 0, efd));
    uint64_t n;
    while (read(efd, &n, 8) == 8) {}
    bar[EDU_RAISE] = 1;
    struct pollfd pf = {.fd = efd, .events = POLLIN};
    EXPECT(poll(&pf, 1, 1000) == 1);
    bar[EDU_ACK] = 1;
  }

  /* There and back through memory of both kinds. */
  uint64_t offset;
  uint32_t h = mem_alloc(fd, PAGE, 0, &offset);
  struct ingot_seg s, u;
  EXPECT(h && segs(fd, h, &s, 1) == 1);
  uint8_t *p = map(fd, offset, PAGE), *q = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint32_t pin = mem_pin(fd, q, PAGE, 0);
  EXPECT(pin && segs(fd, pin, &u, 1) == 1);
  for (int i = 0; i < (int)PAGE; i++) p[i] = (uint8_t)(i * 7);
  EXPECT(edu_dma(bar, s.dma, 0x40000, 1024, 0));
  EXPECT(edu_dma(bar, 0x40000, u.dma, 1024, 2));
  EXPECT(!memcmp(p, q, 1024) && !q[1024]);

  /* Bus mastering off: nothing arrives. After free: an IOMMU lets nothing through. */
  memset(q, 0, PAGE);
  EXPECT(!master(fd, 0));
  edu_dma(bar, 0x40000, u.dma, 1024, 2);
  EXPECT(!q[1] && !q[1000]);
  EXPECT(!master(fd, 1));
  EXPECT(!mem_free(fd, pin));
  if (d->info.dma_mode >= INGOT_DMA_LAZY) {
    edu_dma(bar, 0x40000, u.dma, 1024, 2);
    EXPECT(!q[1] && !q[1000]);
  }
  munmap(p, PAGE);
  munmap(q, PAGE);
  munmap((void*)bar, b.size);
  close(fd);
  close(efd);
}

/* ---- rows: two devices
 * ------------------------------------------------------------------------------------------------ */
static void sharing(struct dev* a, struct dev* b) {
  int fa = node_open(a), fb = node_open(b);
  EXPECT(fa >= 0 && fb >= 0);
  uint32_t h = mem_alloc(fa, 64 << 10, 0, 0);
  struct ingot_mem_export e = {.argsz = sizeof e, .source = h, .length = 64 << 10};
  EXPECT(!ioctl(fa, INGOT_MEM_EXPORT, &e));
  REFUSED(mem_free(fa, h), EBUSY);
  struct ingot_mem_import im = {.argsz = sizeof im, .fd = e.fd};
  EXPECT(!ioctl(fb, INGOT_MEM_IMPORT, &im) && im.size == 64 << 10 && im.handle);
  struct ingot_seg s[16];
  EXPECT(segs(fb, im.handle, s, 16) > 0);
  REFUSED(ioctl(fa, INGOT_MEM_IMPORT, &im), EINVAL); /* its own */
  EXPECT(!master(fb, 1));

  struct ingot_mem_export bad = {.argsz = sizeof bad, .source = h, .offset = 60 << 10, .length = 8 << 10};
  REFUSED(ioctl(fa, INGOT_MEM_EXPORT, &bad), EINVAL);
  bad = (struct ingot_mem_export){.argsz = sizeof bad, .source = 99, .length = PAGE};
  REFUSED(ioctl(fa, INGOT_MEM_EXPORT, &bad), ENOENT);

  struct ingot_bar bar;
  int index = any_bar(fa, &bar);
  uint32_t peer = 0;
  if (index >= 0) {
    struct ingot_peer_map pm = {.argsz = sizeof pm, .fd = fa, .bar = (uint32_t)index, .length = PAGE};
    EXPECT(!ioctl(fb, INGOT_PEER_MAP, &pm) && pm.handle);
    peer = pm.handle;
    EXPECT(segs(fb, peer, s, 16) == 1 && s[0].len == PAGE);
    pm.offset = bar.size;
    REFUSED(ioctl(fb, INGOT_PEER_MAP, &pm), EINVAL);
    pm = (struct ingot_peer_map){.argsz = sizeof pm, .fd = fb, .bar = (uint32_t)index, .length = PAGE};
    REFUSED(ioctl(fb, INGOT_PEER_MAP, &pm), EINVAL);
    pm.fd = 0;
    REFUSED(ioctl(fb, INGOT_PEER_MAP, &pm), EBADF);
  }

  /* The exporter ends: what was imported is dead, and the importer's device is stopped first. */
  close(fa);
  struct ingot_event_get ev;
  EXPECT(!event_get(fb, &ev) && ev.reasons == INGOT_EVENT_PEER_GONE);
  struct ingot_cfg_read c = {.argsz = sizeof c, .offset = 4, .width = 2};
  EXPECT(!ioctl(fb, INGOT_CFG_READ, &c) && !(c.value & 4));
  EXPECT(segs(fb, im.handle, s, 16) == -1 && errno == EOWNERDEAD);
  EXPECT(!mem_free(fb, im.handle));
  if (peer) EXPECT(!mem_free(fb, peer));
  REFUSED(ioctl(fb, INGOT_MEM_IMPORT, &im), ENODEV); /* the fd outlives the session */
  fa = node_open(a);
  EXPECT(fa >= 0); /* nobody holds on */

  /* Each maps the other; both end at once. */
  if (index >= 0 && any_bar(fb, &bar) >= 0) {
    struct ingot_peer_map x = {.argsz = sizeof x, .fd = fa, .bar = (uint32_t)index, .length = PAGE};
    EXPECT(!ioctl(fb, INGOT_PEER_MAP, &x));
    x = (struct ingot_peer_map){.argsz = sizeof x, .fd = fb, .bar = bar.index, .length = PAGE};
    EXPECT(!ioctl(fa, INGOT_PEER_MAP, &x));
  }
  close(e.fd);
  close(fb);
  close(fa);
  fa = node_open(a), fb = node_open(b);
  EXPECT(fa >= 0 && fb >= 0);
  close(fa), close(fb);
}

/* ---- rows: without isolation
 * ------------------------------------------------------------------------------------------ */
static void unsafe(struct dev* d) {
  const char* param = "/sys/module/ingot/parameters/allow_unsafe_dma";
  EXPECT(write_file(param, "0"));
  REFUSED(node_open(d), EPERM);
  EXPECT(write_file(param, "1"));
  chmod(d->node, 0666);
  pid_t child = fork();
  if (!child) {
    if (setuid(65534)) _exit(1);
    _exit(node_open(d) == -1 && errno == EPERM ? 0 : 2);
  }
  EXPECT(wait_for(child) == 0);
  chmod(d->node, 0600);
  int fd = node_open(d);
  EXPECT(fd >= 0);
  close(fd);
  FILE* f = fopen("/proc/sys/kernel/tainted", "r");
  long taint = 0;
  EXPECT(f && fscanf(f, "%ld", &taint) == 1 && (taint & 1 << 6)); /* TAINT_USER */
  if (f) fclose(f);
}

/* ---- hostile arguments
 * -------------------------------------------------------------------------------------------------- */
static uint64_t rng;
static uint64_t draw(uint64_t n) {
  rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
  return n ? rng % n : rng;
}
static uint64_t nasty(void) {
  static const uint64_t list[] = {0,   1,          2,          3,          7,       8,
                                  64,  4095,       4096,       8192,       2 << 20, 1ull << 31,
                                  ~0u, 1ull << 32, 1ull << 40, 1ull << 63, ~0ull,   ~0ull << 12};
  return draw(3) ? list[draw(sizeof list / sizeof *list)] : draw(0);
}

static void fuzz(struct dev* d, long calls, uint64_t seed) {
  static const uint32_t nrs[] = {INGOT_GET_INFO,   INGOT_GET_BAR,    INGOT_CFG_READ,  INGOT_CFG_OP,
                                 INGOT_MEM_ALLOC,  INGOT_MEM_PIN,    INGOT_MEM_SEGS,  INGOT_MEM_FREE,
                                 INGOT_MEM_EXPORT, INGOT_MEM_IMPORT, INGOT_PEER_MAP,  INGOT_IRQ_SET,
                                 INGOT_IRQ_INFO,   INGOT_EVENT_SET,  INGOT_EVENT_GET, INGOT_DEBUG_INJECT};
  rng = seed | 1;
  char* pool = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int fd = node_open(d), efd = eventfd(0, EFD_NONBLOCK);
  EXPECT(fd >= 0);
  long accepted = 0;
  for (long n = 0; n < calls; n++) {
    uint64_t a[16] = {0};
    uint32_t nr = nrs[draw(sizeof nrs / sizeof *nrs)];
    if (!draw(1000)) nr = INGOT_RESET;
    uint32_t* w = (uint32_t*)a;
    for (int i = 0; i < 12; i++)
      if (draw(3)) w[i] = (uint32_t)nasty();
    w[0] = draw(20) ? (uint32_t[]){16, 24, 32, 40, 72}[draw(5)] : (uint32_t)nasty();
    w[1] = draw(4) ? 0 : 1u << draw(4);
    if (draw(2)) { /* nearly right */
      struct ingot_mem_alloc* al = (void*)a;
      if (nr == INGOT_MEM_ALLOC) *al = (struct ingot_mem_alloc){sizeof *al, w[1], PAGE << draw(11), 0, 0, 0, 0, 0};
      struct ingot_mem_pin* pi = (void*)a;
      if (nr == INGOT_MEM_PIN)
        *pi = (struct ingot_mem_pin){sizeof *pi, w[1], (uintptr_t)pool + PAGE * draw(256), PAGE * (1 + draw(64)), 0, 0};
      struct ingot_mem_free* fr = (void*)a;
      if (nr == INGOT_MEM_FREE) *fr = (struct ingot_mem_free){sizeof *fr, 0, (uint32_t)(1 + draw(64)), 0};
      struct ingot_mem_segs* se = (void*)a;
      if (nr == INGOT_MEM_SEGS)
        *se = (struct ingot_mem_segs){sizeof *se,        0, (uint32_t)(1 + draw(64)), (uint32_t)draw(4),
                                      (uint32_t)nasty(), 0, (uintptr_t)pool};
      struct ingot_mem_export* ex = (void*)a;
      if (nr == INGOT_MEM_EXPORT)
        *ex = (struct ingot_mem_export){sizeof *ex, (uint32_t)draw(2), (uint32_t)draw(16),
                                        0,          PAGE * draw(8),    PAGE * draw(8)};
      struct ingot_mem_import* im = (void*)a;
      if (nr == INGOT_MEM_IMPORT) *im = (struct ingot_mem_import){sizeof *im, 0, (int)draw(40), 0, 0, 0, 0};
      struct ingot_event_set* es = (void*)a;
      if (nr == INGOT_EVENT_SET) *es = (struct ingot_event_set){sizeof *es, 0, draw(2) ? efd : (int)draw(10) - 1, 0};
      struct ingot_irq_set* is = (void*)a;
      if (nr == INGOT_IRQ_SET)
        *is = (struct ingot_irq_set){sizeof *is, 0, (uint32_t)draw(3), 1 + (uint32_t)draw(2), (uintptr_t)a + 64},
        w[16] = (uint32_t)efd, w[17] = draw(2) ? ~0u : (uint32_t)draw(20);
    }
    int r = ioctl(fd, nr, draw(50) ? (void*)a : (void*)(uintptr_t)nasty());
    accepted += r == 0;
    if (r == 0 && nr == INGOT_MEM_EXPORT && draw(2)) close(((struct ingot_mem_export*)a)->fd);
    if (r == 0 && nr == INGOT_MEM_ALLOC && !draw(4)) {
      void* p = map(fd, ((struct ingot_mem_alloc*)a)->mmap_offset, PAGE);
      if (p != MAP_FAILED) touch(p), munmap(p, PAGE);
    }
    if (!draw(16)) { /* some stay until the file is closed: a mapping holds it */
      static void* maps[8];
      static uint64_t lens[8];
      uint64_t slot = draw(8);
      if (maps[slot]) munmap(maps[slot], lens[slot]);
      maps[slot] = NULL;
      lens[slot] = PAGE * draw(600);
      uint64_t offset = draw(2) ? draw(24) << 40 | (draw(64) << 12) : nasty();
      void* p = mmap(NULL, lens[slot], (int)draw(8), draw(8) ? MAP_SHARED : MAP_PRIVATE, fd, (off_t)offset);
      if (p != MAP_FAILED) {
        maps[slot] = p;
        touch((char*)p + PAGE * draw(lens[slot] / PAGE));
      }
      if (!draw(50)) {
        for (int k = 0; k < 8; k++)
          if (maps[k]) munmap(maps[k], lens[k]), maps[k] = NULL;
        for (int k = 3; k < 512; k++)
          if (k != efd) close(k);
        double t = now();
        while ((fd = node_open(d)) < 0 && errno == EBUSY && now() - t < 1) usleep(1000); /* deferred fput */
        EXPECT(fd >= 0);
      }
    }
    if (!draw(500)) {
      pid_t child = fork();
      if (!child) _exit(0);
      wait_for(child);
    }
  }
  for (int i = 3; i < 512; i++) close(i);
  say(row_failed ? "FAIL" : "ok", "%ld calls from seed %llu, %ld accepted", calls, (unsigned long long)seed, accepted);
  munmap(pool, 1 << 20);
}

/* ---- all of them
 * ---------------------------------------------------------------------------------------------------------- */
static void run(const char* name, struct dev* d, void (*body)(struct dev*)) {
  static char text[96];
  snprintf(text, sizeof text, "%s (%04x:%04x)", name, d->info.vendor, d->info.device);
  row = text;
  row_failed = row_said = false;
  rows++;
  body(d);
  if (!row_said) say("ok", NULL);
}

static void discover(void) {
  for (int n = 0; n < 64 && num_devs < MAX_DEVICES; n++) {
    struct dev* d = &devs[num_devs];
    char link[96], target[256];
    snprintf(d->node, sizeof d->node, "/dev/ingot%d", n);
    snprintf(link, sizeof link, "/sys/class/ingot/ingot%d/device", n);
    ssize_t len = readlink(link, target, sizeof target - 1);
    if (len < 0) continue;
    target[len] = 0;
    snprintf(d->pci, sizeof d->pci, "%.31s", strrchr(target, '/') + 1);
    num_devs++;
    int fd = node_open(d);
    d->info.argsz = sizeof d->info;
    if (fd < 0 || ioctl(fd, INGOT_GET_INFO, &d->info)) d->info = (struct ingot_info){0};
    if (fd >= 0) close(fd);
    printf("%s %s %04x:%04x mode %u, %u vectors, caps %llx\n", d->node, d->pci, d->info.vendor, d->info.device,
           d->info.dma_mode, d->info.num_irqs, (unsigned long long)d->info.caps);
  }
}

int main(int argc, char** argv) {
  bool compat = argc > 1 && !strcmp(argv[1], "compat"), no_iommu = argc > 1 && !strcmp(argv[1], "unsafe");
  row = "discover";
  if (no_iommu) write_file("/sys/module/ingot/parameters/allow_unsafe_dma", "1");
  discover();
  if (!num_devs) {
    printf("FAIL no device is bound\n");
    return 1;
  }
  if (argc > 3 && !strcmp(argv[1], "fuzz")) {
    row = "fuzz";
    /* As nobody, so that the limit of memory holds. */
    struct rlimit lim = {64 << 20, 64 << 20};
    setrlimit(RLIMIT_MEMLOCK, &lim);
    for (int i = 0; i < num_devs; i++) chmod(devs[i].node, 0666);
    if (setgid(65534) || setuid(65534)) return 1;
    for (int i = 0; i < num_devs; i++)
      fuzz(&devs[i], atol(argv[2]) / num_devs, strtoull(argv[3], NULL, 0) + (uint64_t)i);
    return failures != 0;
  }
  for (int i = 0; i < num_devs; i++) {
    struct dev* d = &devs[i];
    if (no_iommu) run("no isolation", d, unsafe);
    run("arguments", d, arguments);
    run("ownership", d, ownership);
    run("mappings", d, mappings);
    if (compat) {
      run("pinning", d, pinning);
      run("inherited file", d, inheritance);
      continue;
    }
    run("write combining", d, write_combining);
    run("memory", d, memory);
    run("pinning", d, pinning);
    if (!no_iommu) run("unprivileged", d, unprivileged);
    run("no content of the last owner", d, leaks);
    run("inherited file", d, inheritance);
    run("killed", d, killed);
    run("reset", d, resets);
    run("races", d, races);
    run("stalled page faults", d, stalled);
    run("unbound in use", d, unbinding);
    run("injected", d, injected);
  }
  /* It has 28 address bits: enough behind an IOMMU. */
  if (find(0x1234, 0x11e8) && !no_iommu && !compat) run("edu", find(0x1234, 0x11e8), edu);
  for (int i = 1; i < num_devs && !no_iommu && !compat; i++) {
    static char text[96];
    snprintf(text, sizeof text, "sharing (%04x:%04x and %04x:%04x)", devs[0].info.vendor, devs[0].info.device,
             devs[i].info.vendor, devs[i].info.device);
    row = text;
    row_failed = row_said = false;
    rows++;
    sharing(&devs[0], &devs[i]);
    if (!row_said) say("ok", NULL);
  }
  printf("%d rows, %d failures\n", rows, failures);
  return failures != 0;
}
