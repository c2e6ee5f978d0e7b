/* Preloaded into quotemill: counts what is allocated from the moment the first worker starts, by whom, and writes the counts at
 * exit to the file that QM_ALLOC_COUNTS names, one "NAME NUMBER" a line:
 *
 *   program  calls of malloc and its kin, and of mmap, made by the program's own code
 *   crypto   the same made by libcrypto
 *   other    the same made by any other library
 *   live     blocks allocated since then and not freed at exit (blocks from before that were freed since do not count)
 *
 * Until the first worker starts nothing is counted: buffers, scratch and the names of files are taken then. The caller is known by the
 * return address, in whose mapping it lies. glibc's own names for the real functions are used, since dlsym allocates. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc exports these but declares them nowhere. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);

enum { PROGRAM, CRYPTO, OTHER, CALLERS, RANGES_MAX = 32, LIVE_SLOTS = 1 << 16 };

static struct range {
    uintptr_t from, to;
    int caller;
} ranges[RANGES_MAX];
static int range_count;
static atomic_bool counting;
static atomic_ullong calls[CALLERS];

/* Blocks that are live: an open hash of their addresses. */
static _Atomic(uintptr_t) live[LIVE_SLOTS];
static atomic_bool live_full;

static size_t live_home(uintptr_t p)
{
    return (size_t)((p >> 4) * 0x9e3779b97f4a7c15u >> 48) % LIVE_SLOTS;
}

static void live_add(void *p)
{
    for (size_t i = 0; p != NULL && i < LIVE_SLOTS; i++) {
        uintptr_t free_slot = 0;
        if (atomic_compare_exchange_strong(&live[(live_home((uintptr_t)p) + i) % LIVE_SLOTS], &free_slot, (uintptr_t)p))
            return;
        if (i + 1 == LIVE_SLOTS)
            atomic_store(&live_full, true);
    }
}

/* Slots may be emptied in the middle of a run of others, so the search does not stop at an empty one, but looks no further than runs
 * get while few blocks are live. */
static void live_remove(void *p)
{
    for (size_t i = 0; i < 4096; i++) {
        uintptr_t want = (uintptr_t)p;
        if (atomic_compare_exchange_strong(&live[(live_home(want) + i) % LIVE_SLOTS], &want, 0))
            return;
    }
}

static int note_object(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    (void)ctx;
    /* The program comes first, and has no name. */
    int caller = info->dlpi_name[0] == '\0' && range_count == 0 ? PROGRAM : strstr(info->dlpi_name, "libcrypto") != NULL ? CRYPTO : OTHER;
    for (int i = 0; i < info->dlpi_phnum && range_count < RANGES_MAX; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type == PT_LOAD && (h->p_flags & PF_X) != 0 && caller != OTHER)
            ranges[range_count++] = (struct range){info->dlpi_addr + h->p_vaddr, info->dlpi_addr + h->p_vaddr + h->p_memsz, caller};
    }
    return 0;
}

static void count(const void *from)
{
    if (!atomic_load_explicit(&counting, memory_order_relaxed))
        return;
    int caller = OTHER;
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)from >= ranges[i].from && (uintptr_t)from < ranges[i].to)
            caller = ranges[i].caller;
    atomic_fetch_add(&calls[caller], 1);
}

static void *counted(const void *from, void *p)
{
    count(from);
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        live_add(p);
    return p;
}

#define FROM __builtin_return_address(0)

void *malloc(size_t size)
{
    return counted(FROM, __libc_malloc(size));
}
void *calloc(size_t n, size_t size)
{
    return counted(FROM, __libc_calloc(n, size));
}
void *realloc(void *old, size_t size)
{
    if (atomic_load_explicit(&counting, memory_order_relaxed))
        live_remove(old);
    return counted(FROM, __libc_realloc(old, size));
}
void *memalign(size_t alignment, size_t size)
{
    return counted(FROM, __libc_memalign(alignment, size));
}
void *aligned_alloc(size_t alignment, size_t size)
{
    return counted(FROM, __libc_memalign(alignment, size));
}
int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *p = counted(FROM, __libc_memalign(alignment, size));
    if (p == NULL)
        return ENOMEM;
    *out = p;
    return 0;
}
void free(void *p)
{
    if (p != NULL && atomic_load_explicit(&counting, memory_order_relaxed))
        live_remove(p);
    __libc_free(p);
}
void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
    count(FROM);
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}
void *mmap64(void *at, size_t len, int protection, int flags, int fd, off64_t offset)
{
    count(FROM);
    return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

/* The first worker starts: from here on nothing should be allocated for a record. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *arg)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
        dl_iterate_phdr(note_object, NULL);
    }
    atomic_store(&counting, true);
    return real(thread, attributes, run, arg);
}

__attribute__((destructor)) static void write_counts(void)
{
    char text[256];
    const char *path = getenv("QM_ALLOC_COUNTS");
    if (path == NULL || !atomic_exchange(&counting, false))
        return;
    unsigned long long blocks = 0;
    for (size_t i = 0; i < LIVE_SLOTS; i++)
        blocks += atomic_load(&live[i]) != 0;
    if (atomic_load(&live_full))
        blocks = LIVE_SLOTS;
    int len = snprintf(text, sizeof text, "program %llu\ncrypto %llu\nother %llu\nlive %llu\n", atomic_load(&calls[PROGRAM]),
                       atomic_load(&calls[CRYPTO]), atomic_load(&calls[OTHER]), blocks);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, text, (size_t)len) != len)
        _exit(99);
    close(fd);
}
