/* image.h: one crash image: database and sidecar as a crash left them, on real files.
 *
 * The files are mapped here and by the engine under test, and every change goes to an undo log, so
 * that a state costs what differs from its neighbour and not a copy. A hash over all words is kept
 * up to date with each change.
 *
 * What belongs to libpmemobj alone (everything of the sidecar but root and ring) is kept in DRAM and
 * never changed in the file: a pool that is open stays usable while images come and go. A state in
 * which those bytes are not all there is copied and opened for real (check_slow).
 */
#ifndef DAX_CRASH_IMAGE_H
#define DAX_CRASH_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum image_file {
    FILE_BASE,
    FILE_SIDE,
    IMAGE_FILES
};
enum image_name {
    NAME_ABSENT,
    NAME_UNFINISHED,
    NAME_OWN,
    IMAGE_NAMES
};

#define IMAGE_LOW_BYTES (UINT64_C(64) << 20) /* mapped from 0 */
#define IMAGE_HIGH_FROM (UINT64_C(1) << 40)  /* and from here: scratch */
#define IMAGE_HIGH_BYTES (UINT64_C(64) << 20)
#define IMAGE_PATH 512

struct image {
    char dir[IMAGE_PATH / 2];
    char path[IMAGE_FILES][IMAGE_PATH];   /* under their own names */
    char hidden[IMAGE_FILES][IMAGE_PATH]; /* otherwise */
    int fd[IMAGE_FILES];
    uint8_t *low[IMAGE_FILES], *high;
    uint8_t *shadow; /* of the sidecar: what is libpmemobj's */
    uint64_t size[IMAGE_FILES];
    enum image_name name[IMAGE_FILES];
    /* The engine's part of the sidecar, root and ring with twin; empty until known. */
    uint64_t root_from, root_to, ring_from, ring_to;
    uint64_t hash, own_hash;
};
extern struct image image;

/* A directory of its own below $DAX_TEST_DIR, removed at exit. */
void image_make_directory(void);

/* Take hold of the files as they are on disk now. */
void image_attach(void);
void image_detach(void);

/* Words of the sidecar that the engine stores to. */
bool image_is_engine(uint64_t offset);

/* Hash of the state; and one that is the same in every run, for what is drawn by it: the bytes that
 * are libpmemobj's alone hold addresses and a random id. */
uint64_t image_state(void);
uint64_t image_draw(void);

/* Change bytes, size or name. image_write ignores what lies beyond the size. */
void image_write(enum image_file f, uint64_t offset, const uint8_t *bytes, uint64_t len);
/* A store that changes nothing makes a page of the database of a hole all the same. */
void image_touch(uint64_t offset);
void image_set_size(enum image_file f, uint64_t size);
void image_set_name(enum image_file f, enum image_name name);

/* The engine is about to change the file itself: remember what was there. */
void image_note(enum image_file f, uint64_t offset, uint64_t len);
void image_note_size(uint64_t size);

/* Undo everything since the mark. */
struct image_mark {
    size_t count, used;
    uint64_t hash, own_hash;
};
struct image_mark image_mark(void);
void image_undo(const struct image_mark *mark);

/* Full contents, to begin and to start over. */
struct image_copy {
    uint8_t *bytes[IMAGE_FILES]; /* NULL: no file */
    uint64_t size[IMAGE_FILES];
};
void image_save(struct image_copy *out);
void image_restore(const struct image_copy *from);
void image_free_copy(struct image_copy *c);

/* Make copies of the image's files in the same directory: to_base, and to_base with -dax or
 * -dax-new, as the names are. */
void image_copy_files(const char *to_base);

#endif
