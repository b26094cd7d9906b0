/* programs.c: small programs for the explorer, one for each protocol between threads.
 *
 * Each thread is a few calls of the engine's interface, with the checks of world.h in every place
 * where a reader looks: bytes under a pin stay what they are and are those of the snapshot, sizes fit,
 * storage is not reused too early, chains and lists are whole at the end, nobody waits for ever.
 */
#include "tests/interleave/world.h"

#include "engine/chain.h"
#include "engine/writer.h"

#define OLD 3u /* a connection that no thread uses: setup's, and the final look's */

/* --- readers beside a commit ------------------------------------------------------------------- */

static void setup_plain(void)
{
    world_setup(4);
}

/* Page 1 has a version in a frame, because connection OLD still reads the state before. */
static void setup_version(void)
{
    world_setup(4);
    world_begin(OLD);
    world_commit(0, 1u << 1, 0);
}

/* The same after OLD has ended, but nobody has tidied. */
static void setup_unneeded_version(void)
{
    setup_version();
    world_conn[OLD].reading = false;
    atomic_store(&world_store->region.slots[OLD].snapshot, 0);
}

static void read_pin(void)
{
    world_begin(il_self());
    world_pin(il_self(), 1);
    world_end(il_self());
}

static void read_pin_twice(void)
{
    world_begin(il_self());
    world_pin(il_self(), 1);
    world_pin(il_self(), 1);
    world_end(il_self());
}

static void read_copy(void)
{
    world_begin(il_self());
    world_copy(il_self(), 1);
    world_end(il_self());
}

static void read_two(void)
{
    world_begin(il_self());
    world_pin_two(il_self(), 1);
    world_end(il_self());
}

static void write_one(void)
{
    world_commit(il_self(), 1u << 1, 0);
}

static void write_two_pages(void)
{
    world_commit(il_self(), 3u << 1, 0);
}

static void write_twice(void)
{
    world_commit(il_self(), 1u << 1, 0);
    world_commit(il_self(), 1u << 1, 0);
}

static void write_other(void)
{
    world_commit(il_self(), 1u << 2, 0);
}

static void end_old(void)
{
    world_end(OLD);
}

static void only_end(void)
{
    world_end(il_self());
}

static void finish_home(void)
{
    world_finish(OLD, true);
}

/* OLD's snapshot ends now; what it kept goes when somebody tidies. */
static void finish_with_old(void)
{
    if (world_conn[OLD].reading)
        world_end(OLD);
    world_tidy();
    world_finish(OLD, true);
}

/* The chain is whole while OLD still needs it. */
static void finish_kept(void)
{
    IL_MUST(chain_validate(world_store, 1), "the chain of page 1 is broken");
    world_copy(OLD, 1);
    finish_with_old();
}

/* --- checkpoints ------------------------------------------------------------------------------- */

static void checkpoint(void)
{
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
}

static void checkpoint_truncate(void)
{
    world_checkpoint(il_self(), CHECKPOINT_TRUNCATE);
}

/* Thread 0's connection reads the state before the version, too. */
static void setup_old_reader(void)
{
    world_setup(4);
    world_begin(0);
    world_begin(OLD);
    world_commit(1, 1u << 1, 0);
}

static void old_read(void)
{
    world_pin(il_self(), 1);
    world_end(il_self());
}

static void old_read_twice(void)
{
    world_pin(il_self(), 1);
    world_pin(il_self(), 1);
    world_end(il_self());
}

/* Three versions of page 1, the middle one being what thread 0 sees. */
static void setup_chain(void)
{
    world_setup(4);
    world_begin(OLD);
    world_commit(1, 1u << 1, 0);
    world_begin(0);
    world_commit(1, 1u << 1, 0);
}

static void checkpoint_and_reuse(void)
{
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
    world_commit(il_self(), 3u << 2, 0);
}

static void end_old_and_write(void)
{
    world_end(OLD);
    world_commit(il_self(), 3u << 2, 0);
}

/* Thread 0 began before page 1 had any version. */
static void setup_begun(void)
{
    world_setup(4);
    world_begin(0);
}

static void write_and_checkpoint(void)
{
    world_commit(il_self(), 1u << 1, 0);
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
}

/* The node of the version goes and comes back as the newest version of the same page. */
static void checkpoint_and_rewrite(void)
{
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
    world_commit(il_self(), 1u << 1, 0);
}

/* Page 1: base is version 3, then a node of version 2 that only OLD needs, then what base held before,
 * which thread 0 reads. Page 2: base is version 3, then what it held before. */
static void setup_middle(void)
{
    world_setup(4);
    world_begin(0);
    world_commit(1, 1u << 1, 0);
    world_begin(OLD);
    world_commit(1, 3u << 1, 0);
    world_checkpoint(1, CHECKPOINT_PASSIVE);
}

/* Page 1 loses its middle node, which becomes page 2's newest. */
static void move_middle(void)
{
    world_end(OLD);
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
    world_commit(il_self(), 1u << 2, 0);
}

/* Page 1 has moved: base holds version 2, behind the marker is what base held before, which OLD reads. */
static void setup_kept(void)
{
    setup_version();
    world_checkpoint(0, CHECKPOINT_PASSIVE);
}

/* The same with a connection that a thread has. */
static void setup_kept_for_0(void)
{
    world_setup(4);
    world_begin(0);
    world_commit(1, 1u << 1, 0);
    world_checkpoint(1, CHECKPOINT_PASSIVE);
}

/* And with both. */
static void setup_kept_for_two(void)
{
    world_setup(4);
    world_begin(0);
    world_begin(OLD);
    world_commit(1, 1u << 1, 0);
    world_checkpoint(1, CHECKPOINT_PASSIVE);
}

/* Thread 0 reads version 2, which base holds: so version 3 is in a frame, in front of the marker. */
static void setup_kept_and_read(void)
{
    setup_kept();
    world_begin(0);
    world_commit(1, 1u << 1, 0);
}

static void read_copy_twice(void)
{
    read_copy();
    read_copy();
}

static void write_kept_and_checkpoint(void)
{
    world_commit(il_self(), 1u << 1, 0);
    world_checkpoint(il_self(), CHECKPOINT_PASSIVE);
    world_commit(il_self(), 1u << 1, 0);
}

/* A connection's own pin, across its own commits of that page. */
static void own_pin(void)
{
    unsigned k = il_self();
    world_begin(k);
    const uint8_t *at = world_take(k, 1);
    uint8_t before = at[64];
    world_write(k, 1u << 1, 0);
    IL_MUST(at[64] == before && at[192] == before, "the writer's own pin has moved: %u, %u", at[64],
            at[192]);
    world_drop(k, 1, at);
    world_end(k);
}

/* --- shrinking, growing ------------------------------------------------------------------------ */

static void setup_reader_of_last(void)
{
    world_setup(4);
    world_begin(0);
}

static void old_read_last(void)
{
    world_pin(il_self(), 3);
    world_end(il_self());
}

static void read_last_of_size(void)
{
    unsigned k = il_self();
    world_begin(k);
    world_pin(k, (unsigned)(world_conn[k].size_bytes / DAX_PAGE_BYTES) - 1);
    world_end(k);
}

static void shrink(void)
{
    world_commit(il_self(), 0, 3);
    world_checkpoint(il_self(), CHECKPOINT_TRUNCATE);
}

static void shrink_and_grow(void)
{
    world_commit(il_self(), 0, 3);
    world_checkpoint(il_self(), CHECKPOINT_TRUNCATE);
    world_commit(il_self(), 1u << 3, 4);
}

static void grow(void)
{
    world_commit(il_self(), 3u << 4, 6);
}

static void resize_often(void)
{
    world_commit(il_self(), 0, 3);
    world_commit(il_self(), 0, 2);
    world_commit(il_self(), 1u << 2, 3);
}

static void newest_size(void)
{
    world_newest();
}

/* Page 3 is not in the database, but a live record names it: it has to be logged. */
static void setup_logged_growth(void)
{
    world_setup(4);
    world_commit(1, 0, 3);
    world_checkpoint(1, CHECKPOINT_TRUNCATE);
    GUARDED_SET(world_store->region.header->guarded.log_high, 4);
}

static void grow_back(void)
{
    world_commit(il_self(), 1u << 3, 4);
}

/* The writer still pins a page that its own transaction has cut off. */
static void shrink_pinned(void)
{
    unsigned k = il_self();
    world_begin(k);
    const uint8_t *at = world_take(k, 3);
    uint8_t before = at[64];
    world_write(k, 0, 3);
    il_point("look at the page that is cut off");
    IL_MUST(at[64] == before && at[192] == before, "cut off under a pin: %u, %u", at[64], at[192]);
    world_drop(k, 3, at);
    world_end(k);
}

static void finish_sizes(void)
{
    world_tidy();
    world_finish(OLD, false);
}

/* --- the writer lock --------------------------------------------------------------------------- */

static void lock_writer(void)
{
    struct region *r = &world_store->region;
    uint32_t slot = il_self();
    if (!writer_lock(r, slot, 0, 1000000))
        return;
    IL_MUST(writer_owner(r) == slot, "locked by %u", writer_owner(r));
    writer_unlock(r, slot);
}

static void lock_twice(void)
{
    lock_writer();
    lock_writer();
}

static void finish_lock(void)
{
    IL_MUST(writer_owner(&world_store->region) == UINT32_MAX, "the lock is still held");
    uint32_t w = atomic_load(&world_store->region.header->writer);
    IL_MUST(w == 0, "the lock's word is 0x%x", w);
}

/* --- turns --------------------------------------------------------------------------------------- */

static void use_lock(void)
{
    struct region *r = &world_store->region;
    uint32_t slot = il_self();
    IL_MUST(writer_owner(r) == slot, "locked by %u", writer_owner(r));
    il_point("while the lock is held");
    IL_MUST(writer_owner(r) == slot, "%u has it instead", writer_owner(r));
    writer_unlock(r, slot);
}

static void lock_in_turn(void)
{
    struct region *r = &world_store->region;
    uint32_t slot = il_self();
    if ((writer_await_turn(r, slot, slot + 1, 1000000) && writer_claim(r, slot)) ||
        writer_lock(r, slot, 1, 1000000))
        use_lock();
}

static void lock_fresh(void)
{
    if (writer_lock(&world_store->region, il_self(), 1, 1000000))
        use_lock();
}

static void lock_fresh_twice(void)
{
    lock_fresh();
    lock_fresh();
}

/* Waits its turn after somebody who does not use it. */
static void lock_after_look(void)
{
    struct region *r = &world_store->region;
    if (writer_await_turn(r, il_self(), 1, 10000000000000) && writer_claim(r, il_self()))
        use_lock();
}

/* The soft hold of thread 2 of before. */
static void setup_soft(void)
{
    world_setup(4);
    if (!writer_await_turn(&world_store->region, 2, 3, 0))
        il_violation("the lock is free, but not to be had");
}

static void lock_after_soft(void)
{
    if (writer_claim(&world_store->region, 2) ||
        writer_lock(&world_store->region, 2, 1, 1000000))
        use_lock();
}

/* Nobody's sleep ends by itself, so nobody steals: who has waited for its turn is not refused. */
static void write_in_turn(void)
{
    unsigned k = il_self();
    struct dax_err err;
    world_begin_in_turn(k);
    if (conn_begin_write(&world_conn[k], &err) != DAX_OK)
        il_violation("refused in its turn: %s", err.text);
    world_commit(k, 1u << 1, 0);
}

static void read_in_turn(void)
{
    unsigned k = il_self();
    world_begin_in_turn(k);
    world_pin(k, 1);
    world_end(k);
}

/* Two readers of an old state, and a soft hold of thread 2 that does not write. */
static void setup_old_readers_soft(void)
{
    world_setup(4);
    world_begin(0);
    world_commit(2, 1u << 1, 0);
    world_begin_in_turn(2);
}

/* --- connections that come, scratch ------------------------------------------------------------- */

static void claim_and_read(void)
{
    world_claim(il_self());
    world_begin(il_self());
    world_pin(il_self(), 1);
    world_end(il_self());
}

static void claim_and_copy(void)
{
    world_claim(il_self());
    read_copy();
}

/* Thread 1 has no private pages: what it writes goes to scratch, is pushed, rehomed, and dropped. */
static void setup_scratch(void)
{
    world_setup(4);
    world_conn[1].private_limit = 0;
}

static void setup_scratch_old_reader(void)
{
    setup_scratch();
    world_begin(0);
}

static void write_twice_one_lock(void)
{
    struct conn *c = &world_conn[il_self()];
    world_commit_keeping_lock(il_self(), 1u << 1);
    world_commit(il_self(), 1u << 1, 0);
    IL_MUST(!c->writing && !c->reading, "still writing");
}

/* --- tidying ----------------------------------------------------------------------------------- */

/* Two readers of the old state; the version of page 1 waits for both. */
static void setup_two_old_readers(void)
{
    world_setup(4);
    world_begin(0);
    world_begin(1);
    world_commit(2, 1u << 1, 0);
}

static void hold_lock(void)
{
    struct conn *c = &world_conn[il_self()];
    struct dax_err err;
    if (conn_begin_read(c, &err) != DAX_OK || conn_begin_write(c, &err) != DAX_OK)
        il_violation("no lock: %s", err.text);
    conn_end_write(c);
    conn_end_read(c);
}

/* Thread 0 holds a pin on a version that nobody needs any more. */
static const uint8_t *kept_pin;

static void setup_pinned_version(void)
{
    setup_version();
    world_begin(0);
    kept_pin = world_take(0, 1);
    world_conn[OLD].reading = false;
    atomic_store(&world_store->region.slots[OLD].snapshot, 0);
}

static void drop_and_end(void)
{
    world_drop(il_self(), 1, kept_pin);
    world_end(il_self());
}

/* --- the list ---------------------------------------------------------------------------------- */

/* clang-format off */
const struct il_program programs[] = {
    {"pin_commit", "a pin of base beside the commit of that page",
     setup_plain, {read_pin, write_one}, finish_home, 0, 0},
    {"pin_commit_two", "a pin over two pages beside a commit of both",
     setup_plain, {read_two, write_two_pages}, finish_home, 0, 0},
    {"copy_commit", "a copying read beside the commit of that page",
     setup_plain, {read_copy, write_one}, finish_home, 0, 0},
    {"pin_commits", "pins beside two commits of the page",
     setup_plain, {read_pin_twice, write_twice}, finish_home, 0, 0},
    {"pin_version_commit", "a pin of a version beside a commit that drops it",
     setup_unneeded_version, {read_pin, write_twice}, finish_with_old, 0, 0},
    {"pin_kept_commit", "the same while an old snapshot keeps the chain",
     setup_version, {read_pin, write_twice}, finish_with_old, 0, 0},
    {"pin_rehome", "a pin beside a checkpoint that moves the version into base",
     setup_unneeded_version, {read_pin, checkpoint}, finish_with_old, 0, 0},
    {"copy_rehome", "a copying read beside it",
     setup_unneeded_version, {read_copy, checkpoint}, finish_with_old, 0, 0},
    {"old_pin_rehome", "an old snapshot's pin beside a checkpoint that saves base for it",
     setup_old_reader, {old_read_twice, checkpoint}, finish_with_old, 0, 0},
    {"old_pin_reuse", "the same, and freed nodes are used for other pages",
     setup_old_reader, {old_read, checkpoint_and_reuse}, finish_with_old, 0, 0},
    {"pin_push_rehome", "a pin of base beside a commit and a checkpoint that then needs base",
     setup_begun, {old_read, write_and_checkpoint}, finish_home, 0, 0},
    {"pin_rehome_reuse", "a pin of a version that a checkpoint moves, and its frame is used again",
     setup_unneeded_version, {read_pin, checkpoint_and_reuse}, finish_home, 0, 0},
    {"pin_node_again", "the node comes back as a newer version of the same page",
     setup_unneeded_version, {read_pin, checkpoint_and_rewrite}, finish_home, 0, 0},
    {"chain_middle", "a walk over a node that moves into another page's chain",
     setup_middle, {old_read, move_middle}, finish_home, 0, 0},
    {"kept_old", "an old snapshot's pins beside commits that store to base though it reads",
     setup_kept_for_two, {old_read_twice, write_twice}, finish_with_old, 0, 0},
    {"kept_pin", "a pin of base beside commits that want it, while an old snapshot keeps a version",
     setup_kept, {read_pin_twice, write_twice}, finish_kept, 0, 0},
    {"kept_copy", "copying reads beside them",
     setup_kept, {read_copy_twice, write_twice}, finish_kept, 0, 0},
    {"kept_two", "a pin over two pages, of which one has a kept version, beside commits of both",
     setup_kept, {read_two, write_two_pages}, finish_with_old, 0, 0},
    {"kept_end", "the old snapshot ends beside them",
     setup_kept_for_0, {only_end, write_twice}, finish_home, 0, 0},
    {"kept_read", "the marker is in the middle, since its version is read: pins of it beside commits",
     setup_kept_and_read, {old_read_twice, write_twice}, finish_kept, 0, 0},
    {"kept_rehome", "a pin beside commits and a checkpoint between them",
     setup_kept_and_read, {old_read, write_kept_and_checkpoint}, finish_kept, 0, 0},
    {"kept_own_pin", "a writer's own pin of base, across its commit",
     setup_kept, {own_pin, read_copy}, finish_with_old, 0, 0},
    {"kept_three", "an old and a new reader beside a commit",
     setup_kept_for_0, {old_read, read_pin, write_one}, finish_home, 2, 0},
    {"own_pin", "a writer's own pin of the page that it commits",
     setup_plain, {own_pin, read_copy}, finish_home, 0, 0},
    {"chain_walk", "a walk down a chain beside trimming, reclaim and reuse of its nodes",
     setup_chain, {old_read_twice, end_old_and_write}, finish_with_old, 0, 0},
    {"chain_rehome", "a walk down a chain beside a checkpoint",
     setup_chain, {old_read_twice, checkpoint_and_reuse}, finish_with_old, 0, 0},
    {"begin_publish", "a snapshot begins while versions are pushed and trimmed",
     setup_version, {read_copy, write_twice}, finish_with_old, 0, 0},
    {"begin_sizes", "a snapshot begins while commits change the size",
     setup_plain, {read_last_of_size, resize_often}, finish_sizes, 0, 0},
    {"newest_size", "the newest state's size beside commits that change it",
     setup_plain, {newest_size, resize_often}, finish_sizes, 0, 0},
    {"logged_growth", "a reader of a new page that went through the log",
     setup_logged_growth, {read_last_of_size, grow_back}, finish_sizes, 0, 0},
    {"own_pin_retire", "a writer's own pin of a page that it cuts off, beside a checkpoint",
     setup_plain, {shrink_pinned, checkpoint_truncate}, finish_sizes, 0, 0},
    {"pin_retire", "an old snapshot's pin beside shrinking and cutting",
     setup_reader_of_last, {old_read_last, shrink}, finish_sizes, 0, 0},
    {"begin_retire", "a beginning reader beside shrinking and cutting",
     setup_plain, {read_last_of_size, shrink}, finish_sizes, 0, 0},
    {"retire_grow", "the same, and the page comes back",
     setup_plain, {read_last_of_size, shrink_and_grow}, finish_sizes, 0, 0},
    {"map_growth", "a reader of new pages beside the mapping that grows for them",
     setup_plain, {read_last_of_size, grow}, finish_home, 0, 0},
    {"two_readers", "two readers beside a commit",
     setup_plain, {read_pin, read_pin, write_one}, finish_home, 2, 0},
    {"two_writers", "two writers and a reader",
     setup_plain, {read_copy, write_one, write_other}, finish_home, 2, 0},
    {"reader_checkpoints", "a reader, a writer and a checkpoint",
     setup_unneeded_version, {read_pin, write_one, checkpoint_truncate}, finish_with_old, 2, 0},
    {"claim", "a connection's first snapshot beside a commit",
     setup_plain, {claim_and_read, write_one}, finish_home, 0, 0},
    {"claim_two", "two connections that come at once, beside a commit",
     setup_plain, {claim_and_copy, claim_and_copy, write_one}, finish_home, 1, 0},
    {"scratch", "a pin beside a commit whose pages go to scratch, are rehomed and dropped",
     setup_scratch, {read_pin, write_two_pages}, finish_home, 0, 0},
    {"scratch_old", "the same, while an old snapshot reads base",
     setup_scratch_old_reader, {old_read_twice, write_two_pages}, finish_home, 0, 0},
    {"one_lock", "a pin beside two commits under one lock",
     setup_plain, {read_pin, write_twice_one_lock}, finish_home, 0, 0},
    {"tidy", "the last of two readers makes old versions go away",
     setup_two_old_readers, {only_end, only_end}, finish_home, 0, 0},
    {"tidy_locked", "the same while the writer lock comes and goes",
     setup_two_old_readers, {only_end, only_end, hold_lock}, finish_home, 0, 0},
    {"tidy_commit", "a reader ends beside a commit that keeps a version for it",
     setup_reader_of_last, {only_end, write_one}, finish_home, 0, 0},
    {"tidy_pin", "a pin goes and its read ends beside a checkpoint that leaves the node in limbo",
     setup_pinned_version, {drop_and_end, checkpoint}, finish_home, 0, 0},
    {"pin_rehome_home", "a pin beside a checkpoint, and nothing is left at the end",
     setup_unneeded_version, {read_pin, checkpoint}, finish_home, 0, 0},
    {"publish_push", "a snapshot begins beside a commit under which another reader ends",
     setup_version, {read_pin, write_one, end_old}, finish_with_old, 2, 0},
    {"lock", "three threads at the writer lock",
     setup_plain, {lock_writer, lock_writer, lock_writer}, finish_lock, 0, 0},
    {"lock_twice", "two threads that take it twice",
     setup_plain, {lock_twice, lock_twice}, finish_lock, 0, 0},
    {"lock_timeouts", "three threads at the writer lock, of which some give up",
     setup_plain, {lock_twice, lock_writer, lock_writer}, finish_lock, 0, 1},
    {"turn", "one waits for its turn, another takes the lock twice",
     setup_plain, {lock_in_turn, lock_fresh_twice}, finish_lock, 0, 0},
    {"turn_two", "two wait for their turn, another takes the lock",
     setup_plain, {lock_in_turn, lock_in_turn, lock_fresh}, finish_lock, 3, 0},
    {"turn_timeouts", "the same, and somebody gives up or steals",
     setup_plain, {lock_in_turn, lock_in_turn, lock_fresh}, finish_lock, 2, 1},
    {"turn_steal", "a soft hold is used, stolen and waited for at once",
     setup_soft, {lock_after_look, lock_fresh, lock_after_soft}, finish_lock, 0, 1},
    {"turn_commit", "a writer in its turn is not refused beside another",
     setup_plain, {write_in_turn, write_one}, finish_home, 0, 0},
    {"turn_commits", "nor are two beside a third",
     setup_plain, {write_in_turn, write_in_turn, write_other}, finish_home, 2, 0},
    {"turn_read", "a reader that was refused before, beside a writer in its turn",
     setup_plain, {read_in_turn, write_in_turn}, finish_home, 0, 0},
    {"turn_tidy", "the last old reader ends while somebody holds the lock softly",
     setup_old_readers_soft, {only_end, hold_lock, only_end}, finish_home, 0, 0},
    {0}};
/* clang-format on */
