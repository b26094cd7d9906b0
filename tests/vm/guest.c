/* guest.c: one named scenario in the virtual machine: guest SCENARIO.
 *
 * vm_guest loads the extension as any host does. vm_guest_linked is the same program linked with the
 * engine, which lets guest_halt.c stop the machine between two of its stores.
 */
#include "tests/vm/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    void (*run)(void);
    const char *dir; /* of its own, which stays; NULL: a new one */
} scenarios[] = {
    {"mode", scenario_mode, "/mnt/mode"},
    {"mode_again", scenario_mode_again, "/mnt/mode"},
    {"device", scenario_device, NULL},
    {"device_stays", scenario_device_stays, NULL},
    {"media", scenario_media, NULL},
    {"media_stays", scenario_media_stays, NULL},
    {"media_log", scenario_media_log, NULL},
    {"media_ring", scenario_media_ring, NULL},
    {"media_ring_open", scenario_media_ring_open, NULL},
    {"media_twin", scenario_media_twin, NULL},
    {"media_ledger", scenario_media_ledger, NULL},
    {"media_frame", scenario_media_frame, NULL},
    {"media_live", scenario_media_live, "/mnt/stop"},
    {"hwpoison", scenario_hwpoison, NULL},
    {"early", scenario_early, NULL},
    {"work", scenario_work, "/mnt/stop"},
    {"check", scenario_check, "/mnt/stop"},
};

const char *guest_arg(void)
{
    const char *arg = getenv("DAX_VM_ARG");
    return arg ? arg : "";
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 2 && i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(argv[1], scenarios[i].name) != 0 || !scenarios[i].run)
            continue;
        const char *seed = getenv("DAX_TEST_SEED");
        if (scenarios[i].dir)
            test_start_child(argv[1], scenarios[i].dir, seed ? strtoull(seed, NULL, 10) : 1);
        else
            test_start(argv[1]);
        scenarios[i].run();
        return test_finish();
    }
    fprintf(stderr, "no scenario %s\n", argc == 2 ? argv[1] : "");
    return 2;
}
