/* damage.h: crashed pairs of files, and what an open makes of them when they are damaged. */
#ifndef TESTS_FAULT_DAMAGE_H
#define TESTS_FAULT_DAMAGE_H

#include "engine/engine.h"
#include "engine/layout.h"
#include "tests/system/harness.h"

#define PAIR_PAGES 400  /* most pages of a database here */
#define PAIR_STATES 16  /* committed states that are kept */
#define PAIR_RECORDS 16 /* live records */

/* The database as of one transaction. */
struct image {
    uint64_t bytes;
    uint8_t *content;
};

/* A stretch of one of the two files. */
struct area {
    uint8_t *at; /* in the mapping */
    size_t bytes;
    const char *name;
    int record; /* index of the live record, -1: none */
};

/* A crashed pair: two files, mapped; what they should be; where the log is in them. */
struct pair {
    const char *name;
    bool msync;
    char path[512], sidecar[520];
    struct image state[PAIR_STATES];
    int states;                        /* state[states - 1] is the newest */
    int state_of_record[PAIR_RECORDS]; /* index of the state after each live record */
    uint8_t *base, *pool;
    size_t base_bytes, pool_bytes; /* mapped; of the base only what the database uses */
    uint64_t file_bytes;           /* of the base */
    struct sidecar_root *root;
    struct sidecar_twin *twin;
    uint8_t *ring;
    struct area record[PAIR_RECORDS + 1]; /* in order; a wrapped one does not occur */
    int records;
    struct area list; /* of pairs in scratch, bytes 0: none */
    uint64_t sealed;  /* LSN up to which the log is sealed */
    uint64_t list_offset;
};

/* The checkpoint that follows a transaction with scratch is left out. */
extern bool pair_without_checkpoint;

/* The pairs, by number; NULL: no more. Each is made in the test's directory. */
struct pair *pair_make(unsigned number, bool msync);
unsigned pair_count(void);

/* Keep the bytes of everything that an open may change, and put them back. */
void pair_keep(struct pair *p);
void pair_restore(struct pair *p);

/* The records that differ from what pair_keep found: bit i for record i. */
uint32_t pair_damaged(struct pair *p);

enum verdict {
    VERDICT_NEWEST,  /* opened, the newest committed state, closed to a plain file of it */
    VERDICT_REFUSED, /* an error that says what is wrong, nothing changed */
    VERDICT_OLDER,   /* opened with an older committed state: *state_out */
    VERDICT_WRONG,   /* opened with something else */
    VERDICT_CODE,    /* refused with a code or text that does not fit */
    VERDICT_CHANGED  /* refused, and the files have changed */
};
const char *verdict_name(enum verdict v);

/* Open the pair as it stands, judge, close, put it back as pair_keep found it (but for the damage,
 * which is the caller's). text: of the refusal. */
enum verdict pair_try(struct pair *p, int *state_out, struct dax_err *err);

/* Try each step-th byte of the page that the root is in, and say what it does. damage_root.c */
void damage_root_page(struct pair *p, size_t step);

/* With false, libpmemobj opens the pool each time, as in real life; else once in this process. */
void pair_keep_pool_open(bool keep);

#endif
