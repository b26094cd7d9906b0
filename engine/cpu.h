/* cpu.h: the few instructions that C has no name for. */
#ifndef DAX_CPU_H
#define DAX_CPU_H

/* In a loop that waits for another thread's store. */
static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
