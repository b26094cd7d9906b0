/* fuzz_sidecar.c: a sidecar with anything in it, as far as daxlite looks at it by itself.
 *
 * Before libpmemobj is called: kind of file, length, first bytes. After it: root, cursor slots, seals. Without
 * it: what is refused is opened bare, as recovery does.
 * libpmemobj is the stand-in (pool.h), which takes any offsets that lie within the file.
 *
 * Would catch: a crash or SIGBUS on any file; an error that does not name it; a file that is changed
 * although it is refused; ring or twin outside the file; a cursor slot or seal that is not read back as
 * it was written, over whatever was there.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/guard.h"
#include "engine/hash.h"
#include "engine/ledger.h"
#include "engine/sidecar.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/pool.h"
#include "tests/fuzz/sidecar_image.h"

#define PATCHES_MAX 16u
#define LENGTH_MAX (12 * DAX_MIB)

enum kind {
    KIND_FILE,
    KIND_DIRECTORY,
    KIND_FIFO,
    KIND_LINK_LOOP,
    KIND_LINK,
    KIND_MISSING,
    KINDS
};
enum option {
    OPTION_GOOD = 8,
    OPTION_FIT = 16,
    OPTION_SHORT = 32
};

static char path[FUZZ_PATH_BYTES], target[FUZZ_PATH_BYTES];
static struct dax_err err;
static struct image good; /* of a sidecar that the engine made */

void fuzz_start(void)
{
    struct stat like = {.st_mode = 0600, .st_uid = geteuid(), .st_gid = getegid()};
    struct sidecar s;
    fuzz_path(path, "sidecar.db-dax");
    fuzz_path(target, "elsewhere");
    pool_ring_bytes = 24 << 10;
    FUZZ_CHECK(sidecar_create(path, &like, DAX_LOG_BYTES_MIN, &s, &err) == DAX_OK, "%s", err.text);
    sidecar_close(&s);
    image_load(&good, path);
    unlink(path);
}

/* Content: a good sidecar or zeros, with bytes of the input over it. */
static void make_image(struct input *in, uint8_t options, struct image *im)
{
    image_copy(im, &good);
    if (!(options & OPTION_GOOD))
        image_cut(im, 0);
    uint64_t size = options & OPTION_SHORT ? input_bytes(in, 3) % LENGTH_MAX : good.size;
    image_cut(im, size);
    for (unsigned n = 0; n < PATCHES_MAX && input_left(in); n++) {
        static const uint32_t places[] = {0, POOL_HEADER_OFFSET, POOL_ROOT_OFFSET,
                                          POOL_RING_OFFSET};
        uint8_t where = input_u8(in), len = 1 + input_below(in, 16);
        uint64_t at = places[where & 3] + input_u8(in) + (where >> 2) * UINT64_C(256);
        for (unsigned i = 0; i < len; i++) {
            uint8_t byte = input_u8(in);
            if (at + i < size)
                image_write(im, &byte, 1, at + i);
        }
    }
    if (options & OPTION_FIT)
        side_fit_root(im);
}

static void make_file(enum kind kind, const struct image *im)
{
    switch (kind) {
    case KIND_DIRECTORY: FUZZ_CHECK(mkdir(path, 0700) == 0, "mkdir"); break;
    case KIND_FIFO: FUZZ_CHECK(mkfifo(path, 0600) == 0, "mkfifo"); break;
    case KIND_LINK_LOOP: FUZZ_CHECK(symlink(path, path) == 0, "symlink"); break;
    case KIND_LINK:
        image_store(im, target);
        FUZZ_CHECK(symlink(target, path) == 0, "symlink");
        break;
    case KIND_MISSING: break;
    default: image_store(im, path);
    }
}

static bool overlap(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a < b + b_bytes && b < a + a_bytes;
}

/* Cursor and seal are read back, unless the (well hashed) root has put them over itself. */
static void use_sidecar(struct sidecar *s)
{
    struct persist p;
    struct cursor_slot before,
        c = {.lsn = 64, .txid = 7, .size_bytes = 4096, .salt = 11, .nonce = 13};
    uint64_t root_at = (uint64_t)((uint8_t *)s->root - (uint8_t *)s->pool);
    uint64_t ring_at = (uint64_t)(s->ring - (uint8_t *)s->pool);
    uint64_t twin_at = (uint64_t)((uint8_t *)s->twin - (uint8_t *)s->pool);
    FUZZ_CHECK(memcmp(s->root->magic, DAX_SIDECAR_MAGIC, sizeof s->root->magic) == 0 &&
                   s->root->hash == hash_bytes(s->root, offsetof(struct sidecar_root, hash)),
               "a damaged root was opened");
    FUZZ_CHECK(ring_at <= s->file_bytes && s->ring_bytes <= s->file_bytes - ring_at &&
                   twin_at <= s->file_bytes - sizeof *s->twin,
               "ring or twin outside the file");
    persist_init(&p, PERSIST_VOLATILE, -1);
    dax_rc rc = sidecar_cursor_read(s, &before, &err);
    if (rc != DAX_OK)
        fuzz_check_error(rc, &err, "cursor_read");
    (void)sidecar_sealed(s, 11);
    if (overlap(root_at, sizeof *s->root, twin_at, sizeof *s->twin))
        return;
    FUZZ_CHECK(sidecar_cursor_write(s, &p, &c, &err) == DAX_OK, "cursor_write: %s", err.text);
    FUZZ_CHECK(sidecar_cursor_read(s, &before, &err) == DAX_OK, "cursor_read: %s", err.text);
    FUZZ_CHECK(memcmp(&before, &c, sizeof c) == 0, "another cursor is read back");
    FUZZ_CHECK(sidecar_seal(s, &p, 11, 128, &err) == DAX_OK, "seal: %s", err.text);
    FUZZ_CHECK(sidecar_sealed(s, 11) >= 128, "the seal is not read back");
}

static bool no_rescue(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)o, (void)offset, (void)fault;
    return false;
}

static void no_words(struct guard_owner *o, uint64_t offset, const struct guard_fault *fault)
{
    (void)no_rescue(o, offset, fault);
}

/* The same file without libpmemobj: whatever its root says, parts beyond its end are faults that are caught,
 * and nothing is changed. */
static void use_bare(void)
{
    static struct guard_owner owner = {no_rescue, no_words};
    struct sidecar s;
    struct cursor_slot c;
    struct media_entry *list = NULL;
    size_t count, damaged;
    dax_rc rc = sidecar_open_bare(path, &s, &err);
    if (rc != DAX_OK) {
        fuzz_check_error(rc, &err, "open_bare");
        return;
    }
    FUZZ_CHECK(guard_install(&err) == DAX_OK &&
                   guard_map_add(s.pool, s.file_bytes, 0, &owner, &err) == DAX_OK,
               "%s", err.text);
    rc = sidecar_cursor_read(&s, &c, &err);
    if (rc != DAX_OK)
        fuzz_check_error(rc, &err, "cursor_read, bare");
    (void)sidecar_sealed(&s, 11);
    (void)!guard_probe(s.ring, s.ring_bytes, NULL);
    rc = ledger_load(&s, &list, &count, &damaged, &err);
    if (rc != DAX_OK)
        fuzz_check_error(rc, &err, "ledger_load, bare");
    free(list);
    guard_map_remove(s.pool);
    sidecar_close(&s);
}

void fuzz_one(const uint8_t *data, size_t bytes)
{
    struct input in = {data, data + bytes};
    uint8_t options = input_u8(&in);
    enum kind kind = (enum kind)((options & 7) < KINDS ? options & 7 : KIND_FILE);
    struct image im = {0}, now = {0};
    struct sidecar s;
    make_image(&in, options, &im);
    make_file(kind, &im);
    memset(&err, 0, sizeof err);
    dax_rc rc = sidecar_open(path, &s, &err);
    fuzz_trace("kind %d: %s %s", (int)kind, dax_rc_name(rc), err.text);
    if (rc == DAX_OK) {
        FUZZ_CHECK(kind == KIND_FILE || kind == KIND_LINK, "kind %d was opened", (int)kind);
        use_sidecar(&s);
        sidecar_close(&s);
    } else {
        fuzz_check_error(rc, &err, "open");
        FUZZ_CHECK(strstr(err.text, path) != NULL, "the error does not name the file: %s",
                   err.text);
        if (kind == KIND_FILE || kind == KIND_LINK) {
            use_bare();
            image_load(&now, kind == KIND_FILE ? path : target);
            FUZZ_CHECK(image_difference(&im, &now) == UINT64_MAX, "a refused sidecar was changed");
        }
    }
    FUZZ_CHECK(pool_count() == 0, "a sidecar is still open");
    image_free(&im);
    image_free(&now);
    (void)remove(path);
    (void)unlink(target);
}

void fuzz_seeds(fuzz_seed_fn seed)
{
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (unsigned options = 0; options < 64; options += 8) {
            struct seed s = {0};
            char name[32];
            if (kind > 0 && options > 8)
                continue;
            seed_put(&s, kind | options, 1);
            if (options & OPTION_SHORT)
                seed_put(&s, 8 << 20, 3);
            seed_put(&s, 0, 1); /* libpmemobj's signature */
            seed_put(&s, 7, 1);
            seed_put(&s, 0, 1);
            seed_put(&s, UINT64_C(0x004a424f4d454d50), 8);
            snprintf(name, sizeof name, "kind-%u-%02x", kind, options);
            seed(name, s.data, s.bytes);
        }
    /* Each word of a good root becomes one that is too large, too small or odd, hash fitting or not. */
    static const uint64_t words[] = {0, 1, 4096, 12 << 20, UINT64_MAX - 4095};
    for (unsigned at = 0; at < 64; at += 8)
        for (unsigned i = 0; i < 2 * sizeof words / sizeof words[0]; i++) {
            struct seed s = {0};
            char name[32];
            seed_put(&s, OPTION_GOOD | (i % 2 ? OPTION_FIT : 0), 1);
            seed_put(&s, 2, 1); /* where the stand-in has the root's object, rounded up to a line */
            seed_put(&s, 7, 1);
            seed_put(&s, 48 + at, 1);
            seed_put(&s, words[i / 2], 8);
            snprintf(name, sizeof name, "root-%u-%u", at, i);
            seed(name, s.data, s.bytes);
        }
}
