/* programs_bad.c: small programs for the explorer in which pages are bad, or go bad (bad.h).
 */
#include "tests/interleave/bad.h"
#include "tests/interleave/world.h"

#include "engine/frames.h"
#include "engine/pageword.h"
#include "engine/writer.h"

#define OLD 3u /* a connection that no thread uses: setup's, and the final look's */

#define EVERY_PAGE ~0u

/* --- threads ------------------------------------------------------------------------------------- */

static void pin(void)
{
    world_begin(il_self());
    bad_pin(il_self(), 1);
    world_end(il_self());
}

static void copy(void)
{
    world_begin(il_self());
    bad_copy(il_self(), 1);
    world_end(il_self());
}

static void scrub(void)
{
    world_begin(il_self());
    bad_scrub(il_self(), 1);
    world_end(il_self());
}

static void scrub_two(void)
{
    world_begin(il_self());
    bad_scrub(il_self(), 1);
    bad_scrub(il_self(), 2);
    world_end(il_self());
}

static void commit(void)
{
    world_commit(il_self(), 1u << 1, 0);
}

static void commit_other(void)
{
    world_commit(il_self(), 1u << 2, 0);
}

static void commit_both_twice(void)
{
    world_commit(il_self(), 3u << 1, 0);
    world_commit(il_self(), 3u << 1, 0);
}

static void checkpoint(void)
{
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
}

static void commit_and_checkpoint(void)
{
    commit();
    checkpoint();
}

static void repair(void)
{
    bad_repair(il_self(), 1);
}

static void copy_and_repair(void)
{
    copy();
    repair();
}

static void mark(void)
{
    bad_mark(il_self(), 1, false, false);
}

static void mark_and_repair(void)
{
    bad_mark(il_self(), 1, false, true);
    repair();
}

/* A reader that has begun before the threads did. */
static void old_copy(void)
{
    bad_copy(il_self(), 1);
    world_end(il_self());
}

static void old_pin(void)
{
    bad_pin(il_self(), 1);
    world_end(il_self());
}

/* Pins that were taken in setup, by thread. */
static const uint8_t *kept[IL_THREADS];

static void keep(unsigned k, unsigned page)
{
    world_begin(k);
    kept[k] = world_take(k, page);
}

static void use_kept(unsigned page)
{
    unsigned k = il_self();
    if (!bad_look(k, page, kept[k]) || !bad_look(k, page, kept[k]))
        return;
    world_drop(k, page, kept[k]);
    world_end(k);
}

static void use_kept_1(void)
{
    use_kept(1);
}

static void use_kept_2(void)
{
    use_kept(2);
}

static void touch_given_back(void)
{
    (void)bad_touch(kept[il_self()], 1);
}

static void strike(void)
{
    bad_strike(1, BAD_UNREADABLE);
}

static void strike_and_commit(void)
{
    strike();
    commit();
}

static void strike_and_commit_other(void)
{
    strike();
    commit_other();
}

static void strike_and_checkpoint(void)
{
    strike();
    checkpoint();
}

static void strike_and_trim(void)
{
    struct region *r = &world_store->region;
    strike();
    if (!writer_lock(r, il_self(), 0, 1000000))
        return;
    frames_trim(r);
    writer_unlock(r, il_self());
}

/* Page 3 goes and comes back as another block, which is bad: nobody is given it. */
static void cut_and_grow(void)
{
    unsigned k = il_self();
    world_commit(k, 0, 3);
    world_checkpoint(k, CHECKPOINT_TRUNCATE);
    bool cut = pageword_state(pageword_load(&world_store->region, 3)) == PAGE_ABSENT;
    world_commit(k, 1u << 3, 4);
    if (!cut) /* a reader was in the way: it is the same block, and was probed */
        return;
    bad_strike(3, BAD_UNREADABLE);
    world_begin(k);
    bad_pin(k, 3);
    world_end(k);
}

static void pin_last(void)
{
    unsigned k = il_self();
    world_begin(k);
    unsigned last = (unsigned)(world_conn[k].size_bytes / DAX_PAGE_BYTES) - 1;
    bad_pin(k, last < 3 ? last : 2);
    world_end(k);
}

/* --- setups -------------------------------------------------------------------------------------- */

static void setup_good(void)
{
    bad_setup(4);
}

static void setup_bad(void)
{
    bad_setup(4);
    bad_strike(1, BAD_UNREADABLE);
}

static void setup_bad_mapping(void)
{
    bad_setup(4);
    bad_strike(1, BAD_READABLE);
}

/* Page 1 says something else than it should, and is entered as damaged. */
static void setup_damaged(void)
{
    bad_setup(4);
    bad_mark(OLD, 1, true, false);
}

/* The same after somebody has pinned it, and so probed it. */
static void setup_damaged_begun(void)
{
    bad_setup(4);
    world_begin(0);
    world_drop(0, 1, world_take(0, 1));
    bad_mark(OLD, 1, true, false);
}

/* The newest version of page 1 is in a frame, and nobody needs what base holds: it is to be rehomed. */
static void setup_version(void)
{
    bad_setup(4);
    world_begin(OLD);
    world_commit(1, 1u << 1, 0);
    world_conn[OLD].reading = false;
    atomic_store(&world_store->region.slots[OLD].snapshot, 0);
}

static void setup_version_over_bad(void)
{
    setup_version();
    bad_strike(1, BAD_UNREADABLE);
}

static void setup_version_over_damaged(void)
{
    setup_version();
    bad_mark(OLD, 1, true, false);
}

/* Thread 0 reads the state before. */
static void setup_old_reader(bool damaged)
{
    bad_setup(4);
    world_begin(0);
    world_commit(1, 1u << 1, 0);
    if (damaged)
        bad_mark(OLD, 1, true, false);
    else
        bad_strike(1, BAD_UNREADABLE);
}

static void setup_old_reader_of_bad(void)
{
    setup_old_reader(false);
}

static void setup_old_reader_of_damaged(void)
{
    setup_old_reader(true);
}

/* The frame of page 1's last commit is free and holds what base does. */
static void setup_copy(void)
{
    bad_setup(4);
    world_commit(1, 1u << 1, 0);
    keep(0, 1);
}

static void setup_copy_or_death(void)
{
    setup_copy();
    bad_may_die();
}

static void setup_two_copies(void)
{
    bad_setup(4);
    world_commit(1, 3u << 1, 0);
    keep(0, 1);
    keep(1, 2);
    bad_strike(1, BAD_UNREADABLE);
    bad_strike(2, BAD_UNREADABLE);
}

/* Thread 0 goes on using a pointer that it has given back, after the end of its read. */
static void setup_given_back(void)
{
    setup_copy_or_death();
    world_drop(0, 1, kept[0]);
    world_end(0);
    bad_strike(1, BAD_UNREADABLE);
}

/* Thread 0 pins what base holds; there is a newer version in a frame. */
static void setup_copy_and_version(void)
{
    setup_copy_or_death();
    world_commit(1, 1u << 1, 0);
}

/* Page 1 has moved to base under thread 0's snapshot, which is served from a frame; base goes bad. */
static void setup_kept_over_bad(void)
{
    bad_setup(4);
    world_begin(0);
    world_commit(1, 1u << 1, 0);
    world_checkpoint(1, CHECKPOINT_PASSIVE);
    bad_strike(1, BAD_UNREADABLE);
}

/* The same for OLD's snapshot. Base is still good, the last commit's frame is a copy of it, and thread 0
 * pins it. */
static void setup_kept_copy(void)
{
    bad_setup(4);
    bad_may_die();
    world_begin(OLD);
    world_commit(1, 1u << 1, 0);
    world_checkpoint(1, CHECKPOINT_PASSIVE);
    world_commit(1, 1u << 1, 0);
    keep(0, 1);
}

/* So many free frames that the next trim gives some back, page 1's copy among the first. */
static void setup_copy_to_trim(void)
{
    uint32_t nodes[DAX_FRAMES_RETAIN + 2];
    bad_setup(4);
    bad_may_die();
    struct region *r = &world_store->region;
    for (unsigned i = 0; i < DAX_FRAMES_RETAIN + 2; i++)
        nodes[i] = frames_take(r);
    for (unsigned i = 0; i < DAX_FRAMES_RETAIN + 2; i++)
        frames_give(r, nodes[i]);
    world_commit(1, 1u << 1, 0);
    keep(0, 1);
}

static void setup_probed_last(void)
{
    bad_setup(4);
    world_begin(1);
    bad_pin(1, 3);
    world_end(1);
}

/* --- ends ---------------------------------------------------------------------------------------- */

static void finish(void)
{
    bad_finish(OLD, 0);
}

/* What was committed whole is there, whatever base is like. */
static void finish_good(void)
{
    bad_finish(OLD, EVERY_PAGE);
}

/* A checkpoint heals what frames hold; after it nothing is bad. */
static void finish_healed(void)
{
    world_checkpoint(OLD, CHECKPOINT_PASSIVE);
    bad_finish(OLD, EVERY_PAGE);
}

/* OLD's snapshot finds its version, whatever has become of base. */
static void finish_kept(void)
{
    world_copy(OLD, 1);
    world_end(OLD);
    world_tidy();
    finish_healed();
}

static void finish_repaired(void)
{
    if (!bad_check_flags())
        return;
    bad_repair(OLD, 1);
    bad_finish(OLD, EVERY_PAGE);
}

/* --- the list ------------------------------------------------------------------------------------ */

/* clang-format off */
const struct il_program programs_bad[] = {
    {"bad_pins", "two readers' first pins of a bad page",
     setup_bad, {pin, pin}, finish, 0, 0},
    {"bad_pin_commit", "a first pin of a bad page beside its commit",
     setup_bad, {pin, commit}, finish_healed, 0, 0},
    {"bad_copy_commit", "a copying read of a bad page beside its commit and a checkpoint",
     setup_bad, {copy, commit_and_checkpoint}, finish_healed, 0, 0},
    {"bad_copy_repair", "copying reads of a page whose mapping is bad, beside a repair",
     setup_bad_mapping, {copy, copy_and_repair}, finish_repaired, 0, 0},
    {"bad_copy_cleared", "a copying read of a page whose mapping is bad, beside a repair that comes first",
     setup_bad_mapping, {copy, repair}, finish_repaired, 0, 0},
    {"bad_scrub_repair", "the scrub meets it, beside a read and a repair",
     setup_bad_mapping, {scrub, copy_and_repair}, finish_repaired, 0, 0},
    {"bad_scrub_rehome", "the scrub meets a bad page beside the checkpoint that rewrites it",
     setup_version_over_bad, {scrub, checkpoint}, finish_healed, 0, 0},
    {"bad_scrub_commit", "the scrub of good pages beside commits that store there",
     setup_good, {scrub_two, commit_both_twice}, finish_good, 0, 0},
    {"bad_pin_rehome", "a first pin beside the checkpoint that rewrites a bad page",
     setup_version_over_bad, {pin, checkpoint}, finish_healed, 0, 0},
    {"bad_old_rehome", "an old snapshot of a bad page beside a checkpoint: it is told, not shown a newer one",
     setup_old_reader_of_bad, {old_copy, checkpoint}, finish_healed, 0, 0},
    {"bad_old_damaged", "the same of a page that can be read, and is wrong",
     setup_old_reader_of_damaged, {old_pin, checkpoint}, finish_healed, 0, 0},
    {"bad_repair_pin", "a repair that punches a hole beside a reader of the page",
     setup_good, {pin, mark_and_repair}, finish_repaired, 0, 0},
    {"bad_repair_commit", "the same beside a commit of the page",
     setup_good, {commit, mark_and_repair}, finish_repaired, 0, 0},
    {"bad_mark_repair", "a page is entered beside a repair of it",
     setup_good, {mark, mark_and_repair}, finish_repaired, 0, 0},
    {"bad_mark_commit", "a page is entered beside a commit of it: no flag is lost",
     setup_good, {mark, commit}, finish, 0, 0},
    {"bad_damaged_pin", "nobody is given a page that is entered as damaged",
     setup_damaged_begun, {old_pin, commit_other}, finish, 0, 0},
    {"bad_damaged_commit", "a commit of such a page, and its readers",
     setup_damaged, {pin, commit}, finish_good, 0, 0},
    {"bad_damaged_rehome", "a checkpoint that rewrites it, and its readers",
     setup_version_over_damaged, {copy, checkpoint}, finish_good, 0, 0},
    {"bad_rescue_commit", "a pinned page goes bad beside its commit",
     setup_copy_or_death, {use_kept_1, strike_and_commit}, finish_healed, 0, 0},
    {"bad_rescue_reuse", "a pinned page goes bad while its copy's frame is used for another page",
     setup_copy_or_death, {use_kept_1, strike_and_commit_other}, finish, 0, 0},
    {"bad_rescue_two", "two pinned pages are healed by two threads at once",
     setup_two_copies, {use_kept_1, use_kept_2}, finish_good, 0, 0},
    {"bad_rescue_rehome", "an old snapshot's page goes bad beside a checkpoint that wants its storage",
     setup_copy_and_version, {use_kept_1, strike_and_checkpoint}, finish, 0, 0},
    {"bad_rescue_trim", "a pinned page goes bad while its copy's memory is given back",
     setup_copy_to_trim, {use_kept_1, strike_and_trim}, finish, 0, 0},
    {"bad_given_back", "a fault without a pin beside a commit of the page",
     setup_given_back, {touch_given_back, commit_and_checkpoint}, finish_healed, 0, 0},
    {"bad_kept_old", "an old snapshot's version beside commits of its page, whose base is bad",
     setup_kept_over_bad, {old_copy, commit}, finish_healed, 0, 0},
    {"bad_kept_rescue", "such a page, pinned, goes bad beside its commit",
     setup_kept_copy, {use_kept_1, strike_and_commit}, finish_kept, 0, 0},
    {"bad_cut_grow", "a page is cut, and comes back as a block that is bad",
     setup_probed_last, {pin_last, cut_and_grow}, finish, 0, 0},
    {0}};
/* clang-format on */
