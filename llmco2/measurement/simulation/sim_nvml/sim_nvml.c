/* A simulated NVML library: the calls that zeus, nvidia-ml-py and nvitop make, answered from a control file.
 *
 * Built as libnvidia-ml.so.1 and found through LD_LIBRARY_PATH, so that child processes see it too. The file
 * named by LLMCO2_SIM_NVML is append-only text, one command a line (see state.py, which keeps the same
 * state in Python and is compared with this file in the tests); every call first reads what was appended.
 * Energy is the exact integral of a piecewise constant power, shown only at the ticks of the counter.
 * No header of NVIDIA's is needed: the structures below are laid out as nvidia-ml-py passes them.
 */
#define _POSIX_C_SOURCE 200809L
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6,
       INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { MAX_GPUS = 16, MAX_PROCESSES = 32 };

typedef struct { double t, watts, joules; } point;          /* joules: the integral up to t */
typedef struct { unsigned pid; unsigned long long bytes; } process;
typedef struct {
    char name[96], uuid[96];
    unsigned long long memory_total, memory_used, throttle;
    double period, sensor, tick_jitter, power_jitter, gain, temperature, sm_clock, memory_clock, utilization, limit;
    double lost_at, found_at;
    int arch, persistence, mig, counter, instant, permission, n_processes;
    process processes[MAX_PROCESSES];
    point *trace;
    size_t n_points, room;
} gpu;

static struct {
    char path[4096], driver[64];
    long offset;
    double origin;
    const volatile double *virtual_time;
    int n_gpus, init_error, users;
    gpu gpus[MAX_GPUS];
} S;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int llmco2_simulated_nvml(void) { return 1; }

static double now(void) {
    struct timespec ts;
    if (S.virtual_time) return *S.virtual_time;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

/* ---- the control file ---------------------------------------------------------------------------------- */

static void map_virtual_time(void) {
    char path[4200];
    snprintf(path, sizeof path, "%s.clock", S.path);
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    void *at = mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) S.virtual_time = at;
}

static void add_power(gpu *g, double t, double watts) {
    while (g->n_points && g->trace[g->n_points - 1].t >= t) g->n_points--;   /* replaces what was planned from t on */
    if (g->n_points == g->room) {
        size_t room = g->room ? 2 * g->room : 64;
        point *more = realloc(g->trace, room * sizeof *more);
        if (!more) return;
        g->trace = more;
        g->room = room;
    }
    double joules = 0;
    if (g->n_points) {
        const point *last = &g->trace[g->n_points - 1];
        joules = last->joules + last->watts * (t - last->t);
    }
    g->trace[g->n_points++] = (point){t, watts, joules};
}

static void add_process(gpu *g, unsigned pid, unsigned long long bytes) {
    for (int i = 0; i < g->n_processes; i++)
        if (g->processes[i].pid == pid) { g->processes[i].bytes = bytes; return; }
    if (g->n_processes < MAX_PROCESSES) g->processes[g->n_processes++] = (process){pid, bytes};
}

static void end_process(gpu *g, unsigned pid) {
    for (int i = 0; i < g->n_processes; i++)
        if (g->processes[i].pid == pid) { g->processes[i] = g->processes[--g->n_processes]; return; }
}

static void set_text(char *to, size_t room, const char *from) { snprintf(to, room, "%s", from); }

static void gpu_command(gpu *g, const char *key, const char *rest) {
    double a = 0, b = 0;
    unsigned long long big = 0;
    unsigned pid = 0;
    sscanf(rest, "%lf %lf", &a, &b);
    struct { const char *key; double *to; } numbers[] = {
        {"period", &g->period}, {"sensor", &g->sensor}, {"tick_jitter", &g->tick_jitter},
        {"power_jitter", &g->power_jitter}, {"gain", &g->gain}, {"temperature", &g->temperature},
        {"sm_clock", &g->sm_clock}, {"memory_clock", &g->memory_clock}, {"utilization", &g->utilization},
        {"limit", &g->limit}, {"lost", &g->lost_at}, {"found", &g->found_at}};
    struct { const char *key; int *to; } switches[] = {
        {"arch", &g->arch}, {"persistence", &g->persistence}, {"mig", &g->mig}, {"counter", &g->counter},
        {"instant", &g->instant}, {"permission", &g->permission}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].key)) { *numbers[i].to = a; return; }
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (!strcmp(key, switches[i].key)) { *switches[i].to = (int)a; return; }
    if (!strcmp(key, "power")) add_power(g, a, b);
    else if (!strcmp(key, "name")) set_text(g->name, sizeof g->name, rest);
    else if (!strcmp(key, "uuid")) set_text(g->uuid, sizeof g->uuid, rest);
    else if (!strcmp(key, "memory")) sscanf(rest, "%llu %llu", &g->memory_total, &g->memory_used);
    else if (!strcmp(key, "throttle")) sscanf(rest, "%llu", &g->throttle);
    else if (!strcmp(key, "process") && sscanf(rest, "%u %llu", &pid, &big) == 2) add_process(g, pid, big);
    else if (!strcmp(key, "endprocess") && sscanf(rest, "%u", &pid) == 1) end_process(g, pid);
}

static void command(char *line) {
    char key[32];
    int used = 0, index = 0, more = 0;
    if (sscanf(line, "%31s%n", key, &used) != 1) return;
    char *rest = line + used;
    while (*rest == ' ') rest++;
    if (!strcmp(key, "clock")) { if (!strcmp(rest, "virtual")) map_virtual_time(); }
    else if (!strcmp(key, "origin")) S.origin = atof(rest);
    else if (!strcmp(key, "driver")) set_text(S.driver, sizeof S.driver, rest);
    else if (!strcmp(key, "init_error")) S.init_error = atoi(rest);
    else if (!strcmp(key, "gpus")) S.n_gpus = atoi(rest) < MAX_GPUS ? atoi(rest) : MAX_GPUS;
    else if (sscanf(rest, "%d %n", &index, &more) == 1 && index >= 0 && index < MAX_GPUS)
        gpu_command(&S.gpus[index], key, rest + more);
}

static void forget(void) {
    for (int i = 0; i < MAX_GPUS; i++) free(S.gpus[i].trace);
    if (S.virtual_time) munmap((void *)S.virtual_time, sizeof(double));
    int users = S.users;
    memset(&S, 0, sizeof S);
    S.users = users;
    for (int i = 0; i < MAX_GPUS; i++)
        S.gpus[i] = (gpu){.period = 0.02, .sensor = 0.02, .gain = 1, .limit = 700, .arch = 9, .counter = 1,
                          .instant = 1, .permission = 1, .persistence = 1, .lost_at = INFINITY, .found_at = INFINITY};
}

/* Reads complete lines only: a line still being written waits for its end. */
static void refresh(void) {
    const char *path = getenv("LLMCO2_SIM_NVML");
    struct stat st;
    char line[8192];
    if (!path || !*path) { if (S.path[0]) forget(); return; }
    if (strcmp(path, S.path)) { forget(); set_text(S.path, sizeof S.path, path); }
    if (stat(path, &st) || st.st_size <= S.offset) return;
    FILE *file = fopen(path, "r");
    if (!file) return;
    fseek(file, S.offset, SEEK_SET);
    while (fgets(line, sizeof line, file)) {
        size_t n = strlen(line);
        if (!n || line[n - 1] != '\n') break;
        S.offset += (long)n;
        line[n - 1] = 0;
        command(line);
    }
    fclose(file);
}

/* ---- what the sensors show --------------------------------------------------------------------------------- */

static double noise(int index, long k) {   /* splitmix64 of (gpu, tick), in [-1, 1): the same in every process */
    uint64_t z = ((uint64_t)(index + 1) << 48) + (uint64_t)k * 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1.0;
}

static const point *point_at(const gpu *g, double t) {
    size_t low = 0, high = g->n_points;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (g->trace[middle].t <= t) low = middle + 1; else high = middle;
    }
    return low ? &g->trace[low - 1] : NULL;
}

static double watts_at(const gpu *g, double t) {
    const point *p = point_at(g, t);
    return p ? p->watts : 0;
}

static double joules_at(const gpu *g, double t) {
    const point *p = point_at(g, t);
    return p ? p->joules + p->watts * (t - p->t) : 0;
}

static double tick_time(const gpu *g, int index, long k) {
    return S.origin + g->period * ((double)k + g->tick_jitter * noise(index, k));
}

static double counter_j(const gpu *g, int index, double t) {
    long k = (long)floor((t - S.origin) / g->period + 1e-9) + 1;
    while (k > 0 && tick_time(g, index, k) > t + 1e-9) k--;
    double at = tick_time(g, index, k);
    return joules_at(g, at < S.origin ? S.origin : at);
}

static double sensor_w(const gpu *g, int index, double t) {
    long k = (long)floor((t - S.origin) / g->sensor + 1e-9);
    return watts_at(g, S.origin + (double)k * g->sensor) * g->gain * (1 + g->power_jitter * noise(index, ~k));
}

static double average_w(const gpu *g, double t) {
    double from = t - 1 > S.origin ? t - 1 : S.origin;
    return t > from ? g->gain * (joules_at(g, t) - joules_at(g, from)) / (t - from) : 0;
}

/* ---- the calls ---------------------------------------------------------------------------------------------- */

static int enter(const gpu *g) {   /* takes the lock; leave() gives it back */
    pthread_mutex_lock(&lock);
    refresh();
    if (!S.users) return UNINITIALIZED;
    if (!g) return OK;
    if (g < S.gpus || g >= S.gpus + S.n_gpus) return INVALID_ARGUMENT;
    double t = now();
    return t >= g->lost_at && !(t >= g->found_at && g->found_at >= g->lost_at) ? GPU_IS_LOST : OK;
}

static int leave(int code) {
    pthread_mutex_unlock(&lock);
    return code;
}

#define CALL(signature, ...) int signature { int code = enter(g); if (code == OK) { __VA_ARGS__ } return leave(code); }
#define ALLOWED if (!g->permission) return leave(NO_PERMISSION);

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    refresh();
    if (!S.path[0] || !S.n_gpus) return leave(S.init_error ? S.init_error : DRIVER_NOT_LOADED);
    if (S.init_error) return leave(S.init_error);
    S.users++;
    return leave(OK);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    if (!S.users) return leave(UNINITIALIZED);
    S.users--;
    return leave(OK);
}
const char *nvmlErrorString(int code) {
    static const char *texts[] = {"Success", "Uninitialized", "Invalid Argument", "Not Supported",
                                  "Insufficient Permissions", "Already Initialized", "Not Found", "Insufficient Size",
                                  "Insufficient External Power", "Driver Not Loaded"};
    if (code == GPU_IS_LOST) return "GPU is lost";
    return code >= 0 && code < 10 ? texts[code] : "Unknown Error";
}

static int text_out(char *to, unsigned room, const char *text) {
    if (strlen(text) >= room) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return OK;
}

#define SYSTEM(signature, ...) \
    int signature { int code = enter(NULL); if (code == OK) { __VA_ARGS__ } return leave(code); }
SYSTEM(nvmlSystemGetDriverVersion(char *to, unsigned room), code = text_out(to, room, S.driver);)
SYSTEM(nvmlSystemGetNVMLVersion(char *to, unsigned room), code = text_out(to, room, S.driver);)
SYSTEM(nvmlSystemGetCudaDriverVersion_v2(int *version), *version = 13000;)
SYSTEM(nvmlSystemGetCudaDriverVersion(int *version), *version = 13000;)
SYSTEM(nvmlDeviceGetCount_v2(unsigned *n), *n = (unsigned)S.n_gpus;)

int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu **out) {
    int code = enter(NULL);
    if (code == OK && index >= (unsigned)S.n_gpus) code = INVALID_ARGUMENT;
    leave(code);
    if (code != OK) return code;
    code = leave(enter(&S.gpus[index]));
    if (code == OK) *out = &S.gpus[index];
    return code;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, gpu **out) {
    int code = enter(NULL), index = -1;
    for (int i = 0; code == OK && i < S.n_gpus; i++) if (!strcmp(uuid, S.gpus[i].uuid)) index = i;
    leave(code);
    return code != OK ? code : index < 0 ? NOT_FOUND : nvmlDeviceGetHandleByIndex_v2((unsigned)index, out);
}

CALL(nvmlDeviceGetIndex(gpu *g, unsigned *index), *index = (unsigned)(g - S.gpus);)
CALL(nvmlDeviceGetMinorNumber(gpu *g, unsigned *index), *index = (unsigned)(g - S.gpus);)
CALL(nvmlDeviceGetName(gpu *g, char *to, unsigned room), code = text_out(to, room, g->name);)
CALL(nvmlDeviceGetUUID(gpu *g, char *to, unsigned room), code = text_out(to, room, g->uuid);)
CALL(nvmlDeviceGetArchitecture(gpu *g, unsigned *arch), *arch = (unsigned)g->arch;)
CALL(nvmlDeviceGetPersistenceMode(gpu *g, unsigned *mode), *mode = (unsigned)g->persistence;)
CALL(nvmlDeviceGetC2cModeInfoV(gpu *g, void *info), (void)info; code = NOT_SUPPORTED;)

CALL(nvmlDeviceGetTotalEnergyConsumption(gpu *g, unsigned long long *mj), ALLOWED
     if (!g->counter) code = NOT_SUPPORTED;
     else *mj = (unsigned long long)(1e3 * counter_j(g, (int)(g - S.gpus), now()) + 0.5);)
CALL(nvmlDeviceGetPowerUsage(gpu *g, unsigned *mw), ALLOWED
     *mw = (unsigned)(1e3 * (g->arch >= 7 ? average_w(g, now()) : sensor_w(g, (int)(g - S.gpus), now())) + 0.5);)

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    int type, code;
    union { double d; unsigned u; unsigned long long ull; } value;
} field_value;
CALL(nvmlDeviceGetFieldValues(gpu *g, int n, field_value *values),
     for (int i = 0; i < n; i++) {
         field_value *v = &values[i];
         double t = now();
         v->timestamp = (long long)(1e6 * t);
         v->type = 1;
         v->value.ull = 0;
         int known = g->instant && (v->field == 185 || v->field == 186) && !v->scope;
         v->code = !g->permission ? NO_PERMISSION : known ? OK : NOT_SUPPORTED;
         if (v->code != OK) continue;
         double watts = v->field == 186 ? sensor_w(g, (int)(g - S.gpus), t) : average_w(g, t);
         v->value.u = (unsigned)(1e3 * watts + 0.5);
     })

CALL(nvmlDeviceGetPowerManagementLimit(gpu *g, unsigned *mw), *mw = (unsigned)(1e3 * g->limit + 0.5);)
CALL(nvmlDeviceGetEnforcedPowerLimit(gpu *g, unsigned *mw), *mw = (unsigned)(1e3 * g->limit + 0.5);)
CALL(nvmlDeviceGetPowerManagementDefaultLimit(gpu *g, unsigned *mw), *mw = (unsigned)(1e3 * g->limit + 0.5);)
CALL(nvmlDeviceGetPowerManagementLimitConstraints(gpu *g, unsigned *low, unsigned *high),
     *low = (unsigned)(500 * g->limit); *high = (unsigned)(1e3 * g->limit + 0.5);)

typedef struct { unsigned version, sensor; int celsius; } temperature;
CALL(nvmlDeviceGetTemperatureV(gpu *g, temperature *out), out->celsius = (int)lround(g->temperature);)
CALL(nvmlDeviceGetTemperature(gpu *g, unsigned sensor, unsigned *out), (void)sensor;
     *out = (unsigned)lround(g->temperature);)

typedef struct { unsigned gpu, memory; } utilization;
CALL(nvmlDeviceGetUtilizationRates(gpu *g, utilization *out),
     out->gpu = (unsigned)lround(g->utilization); out->memory = out->gpu / 2;)
static int clock_mhz(gpu *g, unsigned type, unsigned *mhz) {
    int code = enter(g);
    if (code == OK) *mhz = (unsigned)lround(type == 2 ? g->memory_clock : g->sm_clock);
    return leave(code);
}
int nvmlDeviceGetClockInfo(gpu *g, unsigned type, unsigned *mhz) { return clock_mhz(g, type, mhz); }
int nvmlDeviceGetMaxClockInfo(gpu *g, unsigned type, unsigned *mhz) { return clock_mhz(g, type, mhz); }
CALL(nvmlDeviceGetCurrentClocksThrottleReasons(gpu *g, unsigned long long *bits), *bits = g->throttle;)
CALL(nvmlDeviceGetCurrentClocksEventReasons(gpu *g, unsigned long long *bits), *bits = g->throttle;)

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
CALL(nvmlDeviceGetMemoryInfo(gpu *g, memory *out),
     *out = (memory){g->memory_total, g->memory_total - g->memory_used, g->memory_used};)
CALL(nvmlDeviceGetMemoryInfo_v2(gpu *g, memory_v2 *out), out->total = g->memory_total; out->reserved = 0;
     out->free = g->memory_total - g->memory_used; out->used = g->memory_used;)

CALL(nvmlDeviceGetMigMode(gpu *g, unsigned *current, unsigned *pending), *current = *pending = (unsigned)g->mig;)
CALL(nvmlDeviceIsMigDeviceHandle(gpu *g, unsigned *is), *is = 0;)
CALL(nvmlDeviceGetMaxMigDeviceCount(gpu *g, unsigned *n), *n = g->mig ? 7 : 0;)
CALL(nvmlDeviceGetMigDeviceHandleByIndex(gpu *g, unsigned index, gpu **out), (void)index;
     *out = NULL; code = NOT_FOUND;)

typedef struct { unsigned pid; unsigned long long bytes; unsigned gpu_instance, compute_instance; } process_info;
CALL(nvmlDeviceGetComputeRunningProcesses_v3(gpu *g, unsigned *n, process_info *out),
     unsigned room = *n;
     *n = (unsigned)g->n_processes;
     if (room < *n) code = INSUFFICIENT_SIZE;
     else for (unsigned i = 0; i < *n; i++)
         out[i] = (process_info){g->processes[i].pid, g->processes[i].bytes, ~0u, ~0u};)
CALL(nvmlDeviceGetGraphicsRunningProcesses_v3(gpu *g, unsigned *n, process_info *out), (void)out; *n = 0;)
CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3(gpu *g, unsigned *n, process_info *out), (void)out; *n = 0;)

typedef struct { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; } pci;
CALL(nvmlDeviceGetPciInfo_v3(gpu *g, pci *out), memset(out, 0, sizeof *out);
     out->bus = (unsigned)(g - S.gpus) + 1;
     snprintf(out->legacy, sizeof out->legacy, "0000:%02X:00.0", out->bus);
     snprintf(out->bus_id, sizeof out->bus_id, "00000000:%02X:00.0", out->bus);)
