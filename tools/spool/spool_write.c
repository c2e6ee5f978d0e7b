/* The two steps that senders take as well as runs: all that a sender links of the spool is this and spool_deliver.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tools/spool/spool_inside.h"

bool spool_write(int fd, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len != 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? EIO : errno;
            return false;
        }
        p += n;
        len -= (size_t)n;
    }
    return true;
}

bool spool_rename_new(int from_fd, const char *from, int to_fd, const char *to)
{
    if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    return linkat(from_fd, from, to_fd, to, 0) == 0 && unlinkat(from_fd, from, 0) == 0;
}
