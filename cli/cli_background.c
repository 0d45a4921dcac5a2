#include "cli/cli_background.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli_output.h"

enum {
    TEXT_MAX_BYTES = 4096,
};

// What the new process says: how the work has begun, and the message or the text that goes with it.
struct word {
    int32_t code;
    uint32_t size;
    char text[TEXT_MAX_BYTES];
};

static int told_fd = -1; // in the new process

static enum err
hear(int fd, struct err_detail *why)
{
    struct word word = {0};
    size_t size = 0;
    ssize_t got = 0;
    do {
        got = read(fd, (char *)&word + size, sizeof word - size);
        size += got > 0 ? (size_t)got : 0;
    } while (got > 0 || (got < 0 && errno == EINTR));
    if (size < offsetof(struct word, text) || size - offsetof(struct word, text) < word.size) {
        return err_fail(why, ERR_INTERNAL, "the process in the background ended without a word");
    }
    if (word.code != ERR_OK) {
        return err_fail(why, (enum err)word.code, "%.*s", (int)word.size, word.text);
    }
    return cli_output_write(bytes_view_of(word.text, word.size), why);
}

enum err
cli_background_split(bool *is_worker_out, struct err_detail *why)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return err_fail(why, err_from_errno(errno), "cannot go to the background: %s", strerror(errno));
    }
    pid_t child = fork();
    if (child < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return err_fail(why, ERR_LIMIT, "cannot go to the background: %s", strerror(errno));
    }
    if (child == 0) {
        (void)close(fds[0]);
        // Once more, so that nobody has to wait for the one that stays.
        pid_t grandchild = fork();
        if (grandchild != 0) {
            _exit(grandchild < 0 ? 1 : 0);
        }
        told_fd = fds[1];
        *is_worker_out = true;
        return ERR_OK;
    }
    (void)close(fds[1]);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    *is_worker_out = false;
    enum err code = hear(fds[0], why);
    (void)close(fds[0]);
    return code;
}

static enum err
leave_terminal(const char *log_path, struct err_detail *why)
{
    int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (log_fd < 0 || null_fd < 0) {
        return err_fail(why, err_from_errno(errno), "%s cannot be written: %s", log_path, strerror(errno));
    }
    (void)setsid();
    if (chdir("/") != 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0 ||
        dup2(log_fd, STDERR_FILENO) < 0) {
        return err_fail(why, err_from_errno(errno), "cannot leave the terminal: %s", strerror(errno));
    }
    (void)close(log_fd);
    (void)close(null_fd);
    return ERR_OK;
}

enum err
cli_background_tell(enum err code, struct bytes_view text, const char *log_path, struct err_detail *why)
{
    struct word word = {0};
    if (code == ERR_OK) {
        code = leave_terminal(log_path, why);
    }
    if (code != ERR_OK) {
        text = bytes_view_of_text(err_message(why, code));
    }
    word.code = (int32_t)code;
    word.size = text.size < sizeof word.text ? (uint32_t)text.size : (uint32_t)sizeof word.text;
    memcpy(word.text, text.data, word.size);
    // The old process may be gone: the work goes on.
    enum err told = file_write_all(told_fd, bytes_view_of(&word, offsetof(struct word, text) + word.size));
    (void)told;
    (void)close(told_fd);
    if (code != ERR_OK) {
        _exit(1); // the old one says why
    }
    return ERR_OK;
}
