// For services/store/ only: one connection to the database, which store.c uses as writer or reader.
#ifndef STORE_STORE_PRIV_H
#define STORE_STORE_PRIV_H

#include <stdbool.h>

#include "services/store/store.h"

enum store_tx_role {
    STORE_TX_WRITER,
    STORE_TX_READER,
};

// store_tx_open connects to the database file, which exists (it may be empty). Used by one thread at a time.
enum err store_tx_open(const char *path, enum store_tx_role role, struct store_tx **out,
    struct err_detail *why) ERR_CHECKED;

// store_tx_close undoes an open transaction; NULL is fine.
void store_tx_close(struct store_tx **tx);

// store_tx_begin starts a transaction: the writer's takes the write lock, a reader's is a snapshot from its first
// query on.
enum err store_tx_begin(struct store_tx *tx) ERR_CHECKED;

// store_tx_commit makes it durable. After an error the transaction is undone and the connection usable.
enum err store_tx_commit(struct store_tx *tx) ERR_CHECKED;

// store_tx_rollback undoes the transaction, if one is open.
void store_tx_rollback(struct store_tx *tx);

// store_tx_is_open: after some errors (a full disk, no memory) the database itself has undone the whole transaction.
bool store_tx_is_open(struct store_tx *tx);

// store_tx_script runs one or more statements without parameters.
enum err store_tx_script(struct store_tx *tx, const char *sql) ERR_CHECKED;

#endif
