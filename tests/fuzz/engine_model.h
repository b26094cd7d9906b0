/* engine_model.h: the operations of fuzz_engine's input, and the database as an array of bytes.
 */
#ifndef TESTS_FUZZ_ENGINE_MODEL_H
#define TESTS_FUZZ_ENGINE_MODEL_H

#include "engine/layout.h"
#include "tests/fuzz/fuzz.h"

#define PAGES 160u
#define BYTES (PAGES * DAX_PAGE_BYTES)

enum op {
    OP_OPEN,
    OP_CLOSE,
    OP_BEGIN_READ,
    OP_END_READ,
    OP_BEGIN_WRITE,
    OP_END_WRITE,
    OP_WRITE_SMALL,
    OP_WRITE_PAGES,
    OP_WRITE_FAR,
    OP_TRUNCATE,
    OP_PREPARE,
    OP_COMMIT,
    OP_PIN,
    OP_UNPIN,
    OP_READ,
    OP_READ_ALL,
    OP_READ_COMMITTED,
    OP_CHECKPOINT,
    OP_CRASH,
    OP_ARM_CRASH,
    OP_TRANSACTION, /* begin, some writes, commit: what most sequences need */
    OP_LOOK,
    OP_END_READ_PINNED,
    OP_COUNT
};

/* One committed or working state; shared by those who see it. */
struct state {
    unsigned refs;
    uint64_t size;
    uint8_t *bytes; /* BYTES, zeros from size on */
};

struct state *state_new(const struct state *from);
struct state *state_ref(struct state *s);
void state_drop(struct state **s);

/* What SQLite sees of the bytes that the mark covers, and zeros behind the end. */
void state_normalize(struct state *s, uint64_t old_size);

/* len bytes at offset are those of the state. */
void state_compare(const struct state *want, const uint8_t *got, uint64_t offset, size_t len,
                   const char *who);

#endif
