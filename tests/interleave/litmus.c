/* litmus.c: the well-known small programs that tell memory models apart, for the explorer itself.
 *
 * Those named _bad have an outcome that x86 allows and the check forbids: the explorer must find it.
 * The others have none. An explorer whose store buffers, non-temporal lines or sleepers did nothing
 * would pass every program of programs.c with each weakening; here it fails.
 */
#include "tests/interleave/explore.h"

#define ORDINARY memory_order_release
#define STRONG memory_order_seq_cst

struct shared {
    _Atomic uint64_t x, y;
    _Atomic uint32_t word;
    uint64_t seen[2];
    uint8_t lines[256] __attribute__((aligned(64)));
};
static struct shared *s;

static bool nobody(unsigned thread)
{
    (void)thread;
    return false;
}

static void setup(void)
{
    s = il_arena(sizeof *s);
    il_keep(s, sizeof *s, true);
    il_name("shared", s, sizeof *s, 0);
    il_lock(nobody);
    il_nontemporal(s->lines, sizeof s->lines);
}

static void none(void)
{
}

/* Store buffering: each stores, then loads what the other stores. */
static void buffer(_Atomic uint64_t *mine, _Atomic uint64_t *other, memory_order order)
{
    atomic_store_explicit(mine, 1, order);
    s->seen[il_self()] = atomic_load_explicit(other, memory_order_acquire);
}

static void buffer_x(void)
{
    buffer(&s->x, &s->y, ORDINARY);
}

static void buffer_y(void)
{
    buffer(&s->y, &s->x, ORDINARY);
}

static void buffer_x_strong(void)
{
    buffer(&s->x, &s->y, STRONG);
}

static void buffer_y_strong(void)
{
    buffer(&s->y, &s->x, STRONG);
}

static void finish_buffer(void)
{
    IL_MUST(s->seen[0] || s->seen[1], "neither thread has seen the other");
}

/* Message passing: stores stay in order. */
static void message_send(void)
{
    atomic_store_explicit(&s->x, 1, memory_order_relaxed);
    atomic_store_explicit(&s->y, 1, ORDINARY);
}

static void message_receive(void)
{
    uint64_t y = atomic_load_explicit(&s->y, memory_order_acquire);
    uint64_t x = atomic_load_explicit(&s->x, memory_order_relaxed);
    IL_MUST(!y || x, "the message has arrived without its content");
}

static void message_send_relaxed(void)
{
    atomic_store_explicit(&s->x, 1, memory_order_relaxed);
    atomic_store_explicit(&s->y, 1, memory_order_relaxed);
}

/* The same with content in two non-temporal lines. */
static void send_lines(bool fence)
{
    uint8_t content[128];
    memset(content, 7, sizeof content);
    il_nt_store(s->lines, content, sizeof content);
    IL_MUST(s->lines[0] == 7 && s->lines[64] == 7, "a thread does not see its own stores");
    if (fence)
        il_nt_fence();
    atomic_store_explicit(&s->y, 1, STRONG);
}

static void lines_send(void)
{
    send_lines(true);
}

static void lines_send_unfenced(void)
{
    send_lines(false);
}

static void lines_receive(void)
{
    uint64_t y = atomic_load_explicit(&s->y, memory_order_acquire);
    IL_MUST(!y || (s->lines[0] == 7 && s->lines[64] == 7), "the message is torn: %u %u",
            s->lines[0], s->lines[64]);
}

/* The first line without the second, and the second without the first. */
static void lines_receive_first(void)
{
    (void)atomic_load_explicit(&s->y, memory_order_acquire);
    IL_MUST(s->lines[0] == 7 || s->lines[64] != 7, "the second line came first");
}

static void lines_receive_second(void)
{
    (void)atomic_load_explicit(&s->y, memory_order_acquire);
    IL_MUST(s->lines[64] == 7 || s->lines[0] != 7, "the first line came first");
}

/* A sleeper that is woken by nobody; one that looks before it sleeps. */
static void sleep_on_word(void)
{
    if (atomic_load(&s->word) == 0)
        (void)il_syscall(SYS_futex, &s->word, 0, 0, NULL, NULL, 0);
}

static void sleep_on_seven(void)
{
    if (atomic_load(&s->word) == 0)
        (void)il_syscall(SYS_futex, &s->word, 0, 7, NULL, NULL, 0);
}

static void wake_word(void)
{
    atomic_store(&s->word, 1);
    (void)il_syscall(SYS_futex, &s->word, 1, 1, NULL, NULL, 0);
}

static void wake_too_early(void)
{
    (void)il_syscall(SYS_futex, &s->word, 1, 1, NULL, NULL, 0);
    atomic_store(&s->word, 1);
}

const struct il_program litmus_programs[] = {
    {"litmus_buffer_bad", "store buffering", setup, {buffer_x, buffer_y}, finish_buffer, 0, 0},
    {"litmus_buffer_one_bad",
     "store buffering on one side",
     setup,
     {buffer_x_strong, buffer_y},
     finish_buffer,
     0,
     0},
    {"litmus_buffer",
     "none if both are strong",
     setup,
     {buffer_x_strong, buffer_y_strong},
     finish_buffer,
     0,
     0},
    {"litmus_message", "message passing", setup, {message_send, message_receive}, none, 0, 0},
    {"litmus_message_relaxed",
     "message passing without release: good on x86 alone",
     setup,
     {message_send_relaxed, message_receive},
     none,
     0,
     0},
    {"litmus_lines_bad",
     "message passing in lines without a fence",
     setup,
     {lines_send_unfenced, lines_receive},
     none,
     0,
     0},
    {"litmus_lines", "with it", setup, {lines_send, lines_receive}, none, 0, 0},
    {"litmus_second_bad",
     "a later line comes first",
     setup,
     {lines_send, lines_receive_first},
     none,
     0,
     0},
    {"litmus_first_bad",
     "an earlier line comes first",
     setup,
     {lines_send, lines_receive_second},
     none,
     0,
     0},
    {"litmus_sleep", "sleep and wake", setup, {sleep_on_word, wake_word}, none, 0, 0},
    {"litmus_sleep_bad",
     "a wake-up before the store",
     setup,
     {sleep_on_word, wake_too_early},
     none,
     0,
     0},
    {"litmus_sleep_other",
     "nobody sleeps on a word that has changed",
     setup,
     {sleep_on_seven, wake_too_early},
     none,
     0,
     0},
    {0}};
