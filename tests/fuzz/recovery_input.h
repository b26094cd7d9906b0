/* recovery_input.h: templates of crashed databases, and the changes that an input describes.
 */
#ifndef TESTS_FUZZ_RECOVERY_INPUT_H
#define TESTS_FUZZ_RECOVERY_INPUT_H

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/sidecar_image.h"

/* Files as a crash has left them, made by the engine itself, and the state that they stand for. */
enum template_kind {
    TEMPLATE_LINES,   /* several small records */
    TEMPLATE_SHRUNK,  /* grown, then smaller; pages beyond the end */
    TEMPLATE_PAIRS,   /* a record of pairs in scratch, not yet applied */
    TEMPLATE_LIST,    /* the same, the list itself in scratch */
    TEMPLATE_RELOG,   /* a relogged page */
    TEMPLATE_WRAPPED, /* the live log goes over the ring's end */
    TEMPLATE_CLOSED,  /* closed cleanly: no mark; the sidecar is history */
    TEMPLATE_EMPTY,   /* marked, nothing committed */
    TEMPLATES
};

struct template
{
    struct image db, sidecar;
    uint64_t size;  /* of the database */
    uint8_t *bytes; /* owned */
};

/* Made at the first call. real: with libpmemobj (pool.h), else the stand-in. */
const struct template *template_get(enum template_kind kind, bool real);

/* Apply the rest of the input to the two files; true if it describes any change. */
bool recovery_change(struct input *in, struct image *db, struct image *sidecar);

#endif
