/* Disks that fail, for LD_PRELOAD.
 *
 * CHAOS_FSYNC_FAIL=n   the n-th sync of a file of the database fails with EIO, and
 *                      an empty file `failed` tells when that was
 * CHAOS_FSYNC_COPY=1   after each sync the file is copied to NAME.durable: that is
 *                      all that a power failure leaves
 * CHAOS_FSYNC_UNDER=p  only files below that directory count
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int calls;

static int ours(int fd, char *path, size_t size)
{
    char name[64];
    const char *under = getenv("CHAOS_FSYNC_UNDER");
    ssize_t length;

    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    length = readlink(name, path, size - 1);
    if (length < 0 || under == NULL)
        return 0;
    path[length] = 0;
    return strncmp(path, under, strlen(under)) == 0;
}

static void keep(const char *path)
{
    char temporary[4200], durable[4200], data[1 << 16];
    struct stat found;
    ssize_t number;
    int from, to;

    if (stat(path, &found) != 0 || !S_ISREG(found.st_mode))
        return;
    snprintf(temporary, sizeof temporary, "%s.durable.%d", path, getpid());
    snprintf(durable, sizeof durable, "%s.durable", path);
    from = open(path, O_RDONLY);
    to = open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    while (from >= 0 && to >= 0 && (number = read(from, data, sizeof data)) > 0)
        if (write(to, data, number) != number)
            abort();
    close(from);
    close(to);
    rename(temporary, durable);
}

static int sync_by(const char *function, int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, function);
    char path[4096];
    int result;

    if (!ours(fd, path, sizeof path))
        return real(fd);
    if (getenv("CHAOS_FSYNC_FAIL") != NULL
            && __sync_add_and_fetch(&calls, 1) == atoi(getenv("CHAOS_FSYNC_FAIL"))) {
        snprintf(path, sizeof path, "%s/failed", getenv("CHAOS_FSYNC_UNDER"));
        close(open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600));
        errno = EIO;
        return -1;
    }
    result = real(fd);
    if (result == 0 && getenv("CHAOS_FSYNC_COPY") != NULL)
        keep(path);
    return result;
}

int fsync(int fd)
{
    return sync_by("fsync", fd);
}

int fdatasync(int fd)
{
    return sync_by("fdatasync", fd);
}
