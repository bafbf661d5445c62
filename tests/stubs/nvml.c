/* A stand-in for libnvidia-ml.so.1: as many of NVML's functions as the miner asks for, by NVIDIA's nvml.h.
 *
 * NVML_STUB says how it behaves: "a10" (the default), "eight", "hang" (init never comes back), "no-driver",
 * "lost" (the second of two cards has fallen off the bus), "old" (a card that knows neither ECC nor MIG).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNSUPPORTED = 3, DRIVER_NOT_LOADED = 9, LOST = 15 };
typedef struct { unsigned long long total, free, used; } memory_t;

static const char *how(void) { const char *text = getenv("NVML_STUB"); return text ? text : "a10"; }
static int is(const char *name) { return strcmp(how(), name) == 0; }

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    while (is("hang")) sleep(60);
    return is("no-driver") ? DRIVER_NOT_LOADED : OK;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : code == LOST ? "GPU is lost" : "Not Supported";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "580.95.05", size); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = is("eight") ? 8 : is("lost") ? 2 : 1; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(uintptr_t)(index + 1);
    return is("lost") && index == 1 ? LOST : OK;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { (void)handle; strncpy(text, "NVIDIA A10", size); return OK; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    (void)handle;
    memory->total = 23028ULL << 20;
    memory->used = 28ULL << 20;
    memory->free = 23000ULL << 20;
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) { (void)handle; *major = 8; *minor = 6; return OK; }
int nvmlDeviceGetMaxClockInfo(void *handle, unsigned kind, unsigned *mhz) { (void)handle; *mhz = kind == 2 ? 6251 : 0; return OK; }
int nvmlDeviceGetMemoryBusWidth(void *handle, unsigned *bits) { (void)handle; *bits = 384; return OK; }
int nvmlDeviceGetEccMode(void *handle, unsigned *now, unsigned *next) {
    (void)handle;
    *now = *next = 1;
    return is("old") ? UNSUPPORTED : OK;
}
int nvmlDeviceGetTotalEccErrors(void *handle, unsigned kind, unsigned counter, unsigned long long *count) {
    (void)handle;
    *count = kind == 1 && counter == 0 ? 2 : 0;
    return is("old") ? UNSUPPORTED : OK;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) {
    (void)handle;
    *now = *next = 0;
    return is("old") ? UNSUPPORTED : OK;
}
int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) { (void)handle; *mode = 1; return OK; }
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *reasons) {
    (void)handle;
    *reasons = 0x1 | 0x4 | 0x40;
    return OK;
}
int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *degrees) { (void)handle; (void)sensor; *degrees = 41; return OK; }
