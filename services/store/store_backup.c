// Copies of the database, and whether it is whole.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "services/store/store.h"

enum err
store_back_up(const char *from_dir, const char *to_dir, struct err_detail *why)
{
    char *from = NULL;
    char *to = NULL;
    enum err err = ERR_NO_MEMORY;
    if (asprintf(&from, "%s/fc.db", from_dir) < 0) {
        from = NULL;
        goto out;
    }
    if (asprintf(&to, "%s/fc.db", to_dir) < 0) {
        to = NULL;
        goto out;
    }
    err = db_copy(from, to, why);
    if (err == ERR_OK) {
        err = file_sync_dir(to_dir);
    }
out:
    free(to);
    free(from);
    return err;
}

struct check {
    char problem[256];
};

static enum err
check_run(struct store_tx *tx, void *context)
{
    struct check *check = context;
    struct store_rows *rows = NULL;
    enum err err = store_query(tx, "PRAGMA integrity_check(1)", STORE_NO_ARGS, &rows);
    if (err == ERR_OK) {
        err = store_rows_next(rows);
    }
    if (err == ERR_OK && strcmp(store_rows_text(rows, 0), "ok") != 0) {
        (void)snprintf(check->problem, sizeof(check->problem), "%s", store_rows_text(rows, 0));
        err = ERR_CORRUPT;
    }
    store_rows_free(&rows);
    return err;
}

enum err
store_check(struct store *store, struct err_detail *why)
{
    struct check check = {.problem = ""};
    enum err err = store_read(store, check_run, &check);
    if (err == ERR_CORRUPT) {
        return err_fail(why, err, "the database is damaged (%s): restore it from a backup", check.problem);
    }
    return err;
}
