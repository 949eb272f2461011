/*
 * For scripts/speed-gate: one version of the library behind functions that are the same for every version. It is compiled
 * against the header of each, so that structs and enumerators may differ, and finds the library's functions in the file
 * that it is told, so that both versions are in one process.
 */
#define _GNU_SOURCE
#include <piquant/quant.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static struct {
    void* library;
    piquant_context_t* context;
    __typeof__(&piquant_context_create) create;
    __typeof__(&piquant_context_get_isa) get_isa;
    __typeof__(&piquant_context_set_num_threads) set_num_threads;
    __typeof__(&piquant_dtype_name) dtype_name;
    __typeof__(&piquant_quantize) quantize;
    __typeof__(&piquant_dequantize) dequantize;
    __typeof__(&piquant_quantize_dequantize) quantize_dequantize;
    __typeof__(&piquant_compute_quant_params) compute_quant_params;
} api;

/* The instruction set that it runs on, or what is wrong. */
const char* gate_open(const char* path, int* ok) {
    const char* name = NULL;
    *ok = 0;
    api.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (api.library == NULL) {
        return dlerror();
    }
#define FIND(member, symbol)                                \
    do {                                                    \
        *(void**)&api.member = dlsym(api.library, #symbol); \
        if (api.member == NULL)                             \
            return "the library has no " #symbol;           \
    } while (0)
    FIND(create, piquant_context_create);
    FIND(get_isa, piquant_context_get_isa);
    FIND(set_num_threads, piquant_context_set_num_threads);
    FIND(dtype_name, piquant_dtype_name);
    FIND(quantize, piquant_quantize);
    FIND(dequantize, piquant_dequantize);
    FIND(quantize_dequantize, piquant_quantize_dequantize);
    FIND(compute_quant_params, piquant_compute_quant_params);
#undef FIND
    if (api.create(&api.context, 1) != PIQUANT_OK || api.get_isa(api.context, &name) != PIQUANT_OK) {
        return "the library makes no context";
    }
    *ok = 1;
    return name;
}

/* Memory for both versions: on huge pages, so that pages do not decide. */
void* gate_memory(size_t bytes) {
    const size_t huge = (size_t)1 << 21;
    void* memory = aligned_alloc(huge, (bytes + huge - 1) / huge * huge);
    if (memory != NULL) {
        madvise(memory, (bytes + huge - 1) / huge * huge, MADV_HUGEPAGE);
        memset(memory, 0, bytes);
    }
    return memory;
}

static int dtype_of(const char* name) {
    for (int i = 0; i < 64; ++i) {
        const char* other = api.dtype_name((piquant_dtype_t)i);
        if (other != NULL && strcmp(name, other) == 0) {
            return i;
        }
    }
    return -1;
}

/* n values of the type, all over the range of a scale of 0.05. Overwrites the codes with the bytes they come from. */
int gate_fill(const char* real, void* floats, void* codes, size_t n) {
    unsigned char* bytes = codes;
    uint32_t state = 2463534242u;
    for (size_t i = 0; i < n; ++i) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (unsigned char)(state >> 24);
    }
    return (int)api.dequantize(api.context, codes, PIQUANT_UINT8, floats, (piquant_dtype_t)dtype_of(real), n, 0.05, 128,
                               NULL);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/*
 * Seconds that one of `calls` calls takes, after one that wakes threads and caches; negative when the library refuses.
 * Operations: 0 quantize, 1 stochastic, 2 dequantize, 3 add, 4 quantize_dequantize, 5 parameters.
 */
double gate_time(int operation, const char* real_name, const char* code_name, void* floats, void* codes, void* out,
                 size_t n, size_t threads, int calls) {
    const piquant_dtype_t real = (piquant_dtype_t)dtype_of(real_name);
    const piquant_dtype_t code = (piquant_dtype_t)dtype_of(code_name);
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    piquant_status_t status = api.set_num_threads(api.context, threads);
    const int64_t zero_point = code_name[0] == 'u' ? 1 : 0;
    double begin = 0;
    options.round_mode = operation == 1 ? PIQUANT_STOCHASTIC : PIQUANT_NEAREST;
    options.reduce_op = operation == 3 ? PIQUANT_ADD : PIQUANT_SET;
    options.seed = 7;
    const piquant_options_t* told = operation == 1 || operation == 3 ? &options : NULL;
    for (int i = 0; i <= calls && status == PIQUANT_OK; ++i) {
        if (i == 1) {
            begin = now();
        }
        switch (operation) {
            case 0:
            case 1: status = api.quantize(api.context, floats, real, codes, code, n, 0.0437, zero_point, told); break;
            case 2:
            case 3: status = api.dequantize(api.context, codes, code, out, real, n, 0.0437, zero_point, told); break;
            case 4:
                status = api.quantize_dequantize(api.context, floats, out, real, code, n, 0.0437, zero_point, told);
                break;
            default: {
                double scale;
                int64_t zero;
                status = api.compute_quant_params(api.context, floats, real, code, n, told, &scale, &zero);
            }
        }
    }
    return status == PIQUANT_OK ? (now() - begin) / calls : -1.0 - (double)status;
}
