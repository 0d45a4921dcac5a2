#include "client/fc_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/text.h"

enum {
    DEPTH_MAX = 128,
    NEW_DIR_MODE = 0777, // less the umask
    FIRST_CAPACITY = 64,
};

#define NS_PER_S INT64_C(1000000000)

// --- Walking --------------------------------------------------------------------------------------------------------

struct walk {
    enum err (*visit)(void *context, const struct fc_tree_entry *entry, struct err_detail *why);
    void (*skip)(void *context, const char *name, const char *reason);
    void *context;
    struct err_detail *why;
    unsigned depth;
};

static void
tell_skipped(const struct walk *walk, const char *name, const char *reason)
{
    if (walk->skip != NULL) {
        walk->skip(walk->context, name, reason);
    }
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void
free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
}

static enum err
add_name(char ***names, size_t *count, size_t *capacity, const char *name)
{
    if (*count == *capacity) {
        size_t larger = *capacity == 0 ? FIRST_CAPACITY : 2 * *capacity;
        char **grown = realloc(*names, larger * sizeof(**names));
        if (grown == NULL) {
            return ERR_NO_MEMORY;
        }
        *names = grown;
        *capacity = larger;
    }
    (*names)[*count] = strdup(name);
    return (*names)[(*count)++] != NULL ? ERR_OK : ERR_NO_MEMORY;
}

// read_names takes the descriptor over.
static enum err
read_names(int fd, char ***names_out, size_t *count_out)
{
    size_t capacity = 0;
    enum err err = ERR_OK;
    struct dirent *entry;

    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    errno = 0;
    while (err == ERR_OK && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            err = add_name(names_out, count_out, &capacity, entry->d_name);
        }
        errno = 0;
    }
    if (err == ERR_OK && errno != 0) {
        err = err_from_errno(errno);
    }
    closedir(dir);
    if (*count_out > 1) {
        qsort(*names_out, *count_out, sizeof(**names_out), compare_names);
    }
    return err;
}

static enum err walk_folder(struct walk *walk, int fd, const char *name);

static enum err
visit_file(struct walk *walk, int fd, const char *name, const struct stat *status)
{
    const struct fc_tree_entry entry = {
        .name = name,
        .fd = fd,
        .size_bytes = (uint64_t)status->st_size,
        .modified_ns = (int64_t)status->st_mtim.tv_sec * NS_PER_S + status->st_mtim.tv_nsec,
        .changed_ns = (int64_t)status->st_ctim.tv_sec * NS_PER_S + status->st_ctim.tv_nsec,
        .inode = (uint64_t)status->st_ino,
    };
    return walk->visit(walk->context, &entry, walk->why);
}

// walk_entry looks at what stands under one name in a folder.
static enum err
walk_entry(struct walk *walk, int dir_fd, const char *leaf, const char *name)
{
    struct stat status;

    if (text_check_file_name(name, NULL) != ERR_OK) {
        tell_skipped(walk, name, "no file on the server can have such a name");
        return ERR_OK;
    }
    int fd = openat(dir_fd, leaf, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) {
        int error_number = errno;
        if (fd >= 0) {
            close(fd);
        }
        if (error_number == ELOOP) {
            tell_skipped(walk, name, "a symbolic link");
        } else if (error_number == ENXIO || error_number == ENODEV) {
            tell_skipped(walk, name, "not a regular file");
        } else if (error_number != ENOENT) {
            return err_fail(walk->why, err_from_errno(error_number), "cannot open \"%s\": %s", name,
                strerror(error_number));
        }
        return ERR_OK;
    }
    if (S_ISDIR(status.st_mode)) {
        return walk_folder(walk, fd, name);
    }
    enum err err = ERR_OK;
    if (S_ISREG(status.st_mode)) {
        err = visit_file(walk, fd, name, &status);
    } else {
        tell_skipped(walk, name, "not a regular file");
    }
    close(fd);
    return err;
}

// walk_folder takes the descriptor over.
static enum err
walk_folder(struct walk *walk, int fd, const char *name)
{
    char **names = NULL;
    size_t count = 0;
    struct bytes path = {.data = NULL};

    if (walk->depth == DEPTH_MAX) {
        close(fd);
        return err_fail(walk->why, ERR_TOO_BIG, "\"%s\" is more than %d folders deep", name, (int)DEPTH_MAX);
    }
    int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    enum err err = again < 0 ? err_from_errno(errno) : read_names(again, &names, &count);
    if (err != ERR_OK) {
        err_fail(walk->why, err, "cannot read the folder \"%s\": %s", name, err_sentence(err));
    }
    walk->depth++;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        bytes_clear(&path);
        err = bytes_append(&path, bytes_view_of_text(name));
        if (err == ERR_OK && name[0] != '\0') {
            err = bytes_append(&path, bytes_view_of_text("/"));
        }
        if (err == ERR_OK) {
            err = bytes_append(&path, bytes_view_of(names[i], strlen(names[i]) + 1));
        }
        if (err == ERR_OK) {
            err = walk_entry(walk, fd, names[i], (const char *)path.data);
        }
    }
    walk->depth--;
    bytes_free(&path);
    free_names(names, count);
    close(fd);
    return err;
}

enum err
fc_tree_walk(const char *folder,
    enum err (*visit)(void *context, const struct fc_tree_entry *entry, struct err_detail *why),
    void (*skip)(void *context, const char *name, const char *reason), void *context, struct err_detail *why)
{
    struct walk walk = {.visit = visit, .skip = skip, .context = context, .why = why};

    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        int error_number = errno;
        return err_fail(why, err_from_errno(error_number), "cannot open the folder \"%s\": %s", folder,
            strerror(error_number));
    }
    return walk_folder(&walk, fd, "");
}

// --- Making folders -------------------------------------------------------------------------------------------------

enum err
fc_tree_open_parent(int root_fd, const char *name, bool is_made, int *fd_out, const char **leaf_out,
    struct err_detail *why)
{
    char component[TEXT_FILE_COMPONENT_MAX_BYTES + 1];
    const char *slash;

    enum err err = text_check_file_name(name, why);
    if (err != ERR_OK) {
        return err;
    }
    const char *at = name;
    int fd = fcntl(root_fd, F_DUPFD_CLOEXEC, 0);
    while (fd >= 0 && (slash = strchr(at, '/')) != NULL) {
        (void)snprintf(component, sizeof(component), "%.*s", (int)(slash - at), at);
        if (is_made && mkdirat(fd, component, NEW_DIR_MODE) != 0 && errno != EEXIST) {
            int error_number = errno;
            close(fd);
            return err_fail(why, err_from_errno(error_number), "cannot make the folder of \"%s\": %s", name,
                strerror(error_number));
        }
        int below = openat(fd, component, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int error_number = errno;
        close(fd);
        errno = error_number;
        fd = below;
        at = slash + 1;
    }
    if (fd >= 0) {
        *fd_out = fd;
        *leaf_out = at;
        return ERR_OK;
    }
    if (errno == ENOTDIR || errno == ELOOP) {
        return err_fail(why, ERR_CONFLICT, "something that is no folder is in the way of \"%s\"", name);
    }
    int error_number = errno;
    return err_fail(why, err_from_errno(error_number), "cannot open the folder of \"%s\": %s", name,
        strerror(error_number));
}

// --- What is on the server ------------------------------------------------------------------------------------------

struct filling {
    struct fc_remote_list *list;
    enum err err;
};

static bool
add_remote(void *context, const struct fc_file *file)
{
    struct filling *filling = context;
    struct fc_remote_list *list = filling->list;

    if (list->count == list->capacity) {
        size_t larger = list->capacity == 0 ? FIRST_CAPACITY : 2 * list->capacity;
        struct fc_remote *grown = realloc(list->files, larger * sizeof(list->files[0]));
        if (grown == NULL) {
            filling->err = ERR_NO_MEMORY;
            return false;
        }
        list->files = grown;
        list->capacity = larger;
    }
    struct fc_remote *remote = &list->files[list->count];
    remote->name = strdup(file->name);
    if (remote->name == NULL) {
        filling->err = ERR_NO_MEMORY;
        return false;
    }
    list->count++;
    memcpy(remote->id, file->id, sizeof(remote->id));
    memcpy(remote->md5, file->md5, sizeof(remote->md5));
    remote->size_bytes = file->size_bytes;
    remote->modified_unix_ms = file->modified_unix_ms;
    remote->mode = file->mode;
    remote->version = file->version;
    return true;
}

static int
compare_remotes(const void *a, const void *b)
{
    return strcmp(((const struct fc_remote *)a)->name, ((const struct fc_remote *)b)->name);
}

enum err
fc_remote_list_fill(struct fc_remote_list *list, struct fc_session *session, const char *prefix, const char *room,
    struct err_detail *why)
{
    struct filling filling = {.list = list};
    const struct fc_file_query query = {.prefix = prefix, .room = room, .is_mine_only = room == NULL};

    enum err err = fc_file_query_each(session, &query, add_remote, &filling, why);
    if (list->count > 1) {
        qsort(list->files, list->count, sizeof(list->files[0]), compare_remotes);
    }
    return filling.err != ERR_OK ? filling.err : err;
}

const struct fc_remote *
fc_remote_list_find(const struct fc_remote_list *list, const char *name)
{
    const struct fc_remote key = {.name = (char *)(uintptr_t)name};

    if (list->count == 0) {
        return NULL;
    }
    return bsearch(&key, list->files, list->count, sizeof(list->files[0]), compare_remotes);
}

void
fc_remote_list_free(struct fc_remote_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        free(list->files[i].name);
    }
    free(list->files);
    *list = (struct fc_remote_list){.files = NULL};
}
