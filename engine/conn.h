/* conn.h: a connection's own state. The interface is engine.h.
 */
#ifndef DAX_CONN_H
#define DAX_CONN_H

#include "engine/store.h"

/* So many pages pinned one behind the other are a scan; a search pins two now and then. */
#define CONN_SCAN_PAGES 2u

#define CONN_PINS_ALL ((1u << DAX_SLOT_PINS_SHARED) - 1)

/* Used by one thread at a time. */
struct conn {
    struct store *store;
    uint32_t slot;
    bool read_only;
    bool reading;  /* holds a snapshot */
    bool writing;  /* holds the writer lock */
    bool probe;    /* load every line of a page before it is handed out */
    bool refused;  /* by the last conn_begin_write: the next read may wait for its turn */
    bool soft;     /* may hold the writer lock softly (writer.h) */
    uint32_t ticket; /* place among those who were refused; 0: was not */
    uint32_t missed; /* how often it has waited in vain since it has this ticket */
    uint32_t private_limit; /* frames of one transaction */
    uint64_t snapshot;
    uint64_t size_bytes; /* of the snapshot */
    uint64_t last_pinned; /* page */
    uint32_t in_sequence; /* pages in front of it that were pinned one after the other */
    uint32_t pins_used;  /* bit i: pin i is taken */
    void *pinned[DAX_SLOT_PINS_SHARED]; /* what conn_pin handed out for pin i, NULL: free */
};

/* Release the writer lock. */
void conn_unlock_writer(struct conn *c);

#endif
