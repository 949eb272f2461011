/* What a C99 program does with the installed library: every function, and every error it can provoke. */
#include <piquant/quant.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                  \
    do {                                                                  \
        if (!(condition)) {                                               \
            fprintf(stderr, "consumer.c:%d: %s\n", __LINE__, #condition); \
            ++failures;                                                   \
        }                                                                 \
    } while (0)

#define EXPECT(status, call)                                                                                       \
    do {                                                                                                           \
        const piquant_status_t expect_got = (call);                                                                \
        if (expect_got != (status)) {                                                                              \
            fprintf(stderr, "consumer.c:%d: %s: %s, not %s\n", __LINE__, #call, piquant_status_string(expect_got), \
                    piquant_status_string(status));                                                                \
            ++failures;                                                                                            \
        }                                                                                                          \
    } while (0)

static const float values[7] = {-2.0f, -0.26f, 0.0f, 0.25f, 0.74f, 1.0f, 100.0f};

static void describe(void) {
    CHECK(strlen(piquant_version()) >= strlen("5.0.0"));
    CHECK(strcmp(piquant_dtype_name(PIQUANT_UINT4), "uint4") == 0);
    CHECK(piquant_dtype_bits(PIQUANT_INT64) == 64);
    CHECK(piquant_size(PIQUANT_UINT2, 5) == 2);
    CHECK(piquant_dtype_name((piquant_dtype_t)99) == NULL);
    CHECK(piquant_dtype_bits((piquant_dtype_t)99) == 0);
    CHECK(piquant_size((piquant_dtype_t)99, 5) == 0);
    CHECK(strcmp(piquant_status_string(PIQUANT_OK), piquant_status_string(PIQUANT_ERROR_MEMORY)) != 0);
    CHECK(piquant_available_isa(0) != NULL);
    CHECK(piquant_available_isa(1000) == NULL);
}

static void settings(piquant_context_t* context) {
    size_t n = 0;
    const char* isa = NULL;
    EXPECT(PIQUANT_OK, piquant_context_get_num_threads(context, &n));
    CHECK(n == 2);
    EXPECT(PIQUANT_OK, piquant_context_set_num_threads(context, 3));
    EXPECT(PIQUANT_OK, piquant_context_get_num_threads(context, &n));
    CHECK(n == 3);
    EXPECT(PIQUANT_OK, piquant_context_set_isa(context, "scalar"));
    EXPECT(PIQUANT_OK, piquant_context_get_isa(context, &isa));
    CHECK(strcmp(isa, "scalar") == 0);
    EXPECT(PIQUANT_OK, piquant_context_set_isa(context, piquant_available_isa(0)));
    EXPECT(PIQUANT_OK, piquant_context_set_serial_cutoff(context, 0));
    EXPECT(PIQUANT_OK, piquant_context_get_serial_cutoff(context, &n));
    CHECK(n == 0);
    EXPECT(PIQUANT_OK, piquant_context_set_stream_threshold(context, 1000));
    EXPECT(PIQUANT_OK, piquant_context_get_stream_threshold(context, &n));
    CHECK(n == 1000);
}

static void transforms(piquant_context_t* context) {
    const unsigned char given[4] = {0x20, 0x43, 0x75, 0x0f}; /* 0 2 | 3 4 | 5 7 | 15 */
    const float back_expected[7] = {-1.5f, -0.5f, 0.0f, 0.5f, 1.0f, 2.0f, 6.0f};
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    unsigned char codes[4];
    float back[7];
    float fused[7];
    int i;

    memset(codes, 0xff, sizeof codes);
    EXPECT(PIQUANT_OK, piquant_quantize(context, values, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, 7, 0.5, 3, NULL));
    /* round(-4, -0.52, 0, 0.5, 1.48, 2, 200) + 3, clamped: 0 2 | 3 3 | 4 5 | 15; half to even takes 0.5 to 0 */
    CHECK(codes[0] == 0x20);
    CHECK(codes[1] == 0x33);
    CHECK(codes[2] == 0x54);
    CHECK(codes[3] == 0x0f);
    EXPECT(PIQUANT_OK, piquant_dequantize(context, given, PIQUANT_UINT4, back, PIQUANT_FLOAT32, 7, 0.5, 3, &options));
    for (i = 0; i < 7; ++i) {
        CHECK(back[i] == back_expected[i]);
    }
    options.reduce_op = PIQUANT_ADD;
    EXPECT(PIQUANT_OK, piquant_dequantize(context, given, PIQUANT_UINT4, back, PIQUANT_FLOAT32, 7, 0.5, 3, &options));
    for (i = 0; i < 7; ++i) {
        CHECK(back[i] == 2 * back_expected[i]);
    }

    options.reduce_op = PIQUANT_SET;
    options.round_mode = PIQUANT_STOCHASTIC;
    options.seed = 42;
    options.has_quant_min = options.has_quant_max = 1;
    options.quant_min = 1;
    options.quant_max = 14;
    EXPECT(PIQUANT_OK, piquant_quantize(context, values, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, 7, 0.5, 3, &options));
    CHECK((codes[0] & 15) == 1);
    CHECK(codes[3] == 14);
    EXPECT(PIQUANT_OK, piquant_dequantize(context, codes, PIQUANT_UINT4, back, PIQUANT_FLOAT32, 7, 0.5, 3, &options));
    EXPECT(PIQUANT_OK,
           piquant_quantize_dequantize(context, values, fused, PIQUANT_FLOAT32, PIQUANT_UINT4, 7, 0.5, 3, &options));
    CHECK(memcmp(back, fused, sizeof back) == 0);
    EXPECT(PIQUANT_OK, piquant_quantize(context, NULL, PIQUANT_FLOAT32, NULL, PIQUANT_UINT4, 0, 0.5, 3, NULL));
}

/* Large enough for every thread and for streaming stores. */
static void large(piquant_context_t* context) {
    const size_t n = 1000003;
    const size_t bytes = piquant_size(PIQUANT_INT8, n);
    float* in = malloc(n * sizeof *in);
    signed char* out = malloc(bytes);
    size_t i;
    size_t wrong = 0;
    CHECK(in != NULL && out != NULL);
    if (in != NULL && out != NULL) {
        for (i = 0; i < n; ++i) {
            in[i] = (float)((int)(i % 201) - 100);
        }
        piquant_prepare_output(out, bytes);
        EXPECT(PIQUANT_OK, piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, n, 1.0, 0, NULL));
        for (i = 0; i < n; ++i) {
            wrong += out[i] != (int)(i % 201) - 100;
        }
        CHECK(wrong == 0);
    }
    free(in);
    free(out);
}

static void parameters(piquant_context_t* context) {
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    double scale = 0;
    int64_t zero_point = 0;
    EXPECT(PIQUANT_OK,
           piquant_compute_quant_params(context, values, PIQUANT_FLOAT32, PIQUANT_UINT8, 7, NULL, &scale, &zero_point));
    CHECK(scale == (double)(float)(102.0 / 255));
    CHECK(zero_point == 5);
    options.symmetric = 1;
    EXPECT(PIQUANT_OK, piquant_compute_quant_params(context, values, PIQUANT_FLOAT32, PIQUANT_INT8, 7, &options, &scale,
                                                    &zero_point));
    CHECK(scale == (double)(float)(100.0 / 127));
    CHECK(zero_point == 0);
}

static void errors(piquant_context_t* context) {
    const float not_finite[2] = {1.0f, (float)INFINITY};
    const float widest[2] = {-FLT_MAX, FLT_MAX};
    piquant_context_t* other = NULL;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    unsigned char out[32];
    unsigned char before[32];
    float in_place[8] = {0};
    double scale = 7;
    int64_t zero_point = 7;
    size_t n = 0;
    memset(out, 0x5a, sizeof out);
    memcpy(before, out, sizeof out);

#define QUANTIZE(c, in, in_type, to, out_type, count, s, z, o) \
    piquant_quantize(c, in, in_type, to, out_type, count, s, z, o)
    EXPECT(PIQUANT_ERROR_CONTEXT, QUANTIZE(NULL, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_NULL, QUANTIZE(context, NULL, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_NULL, QUANTIZE(context, values, PIQUANT_FLOAT32, NULL, PIQUANT_INT8, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_FLOAT_DTYPE, QUANTIZE(context, values, PIQUANT_INT8, out, PIQUANT_INT8, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_FLOAT_DTYPE, QUANTIZE(context, values, (piquant_dtype_t)-1, out, PIQUANT_INT8, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_CODE_DTYPE, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_FLOAT16, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_CODE_DTYPE,
           QUANTIZE(context, values, PIQUANT_FLOAT32, out, (piquant_dtype_t)99, 7, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_LENGTH, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, SIZE_MAX, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_OVERLAP, QUANTIZE(context, in_place, PIQUANT_FLOAT32, in_place, PIQUANT_INT8, 8, 1, 0, NULL));
    EXPECT(PIQUANT_ERROR_SCALE, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 0, 0, NULL));
    EXPECT(PIQUANT_ERROR_SCALE, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, NAN, 0, NULL));
    EXPECT(PIQUANT_ERROR_ZERO_POINT, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 128, NULL));
    options.has_quant_min = options.has_quant_max = 1;
    options.quant_max = -1;
    EXPECT(PIQUANT_ERROR_QUANT_RANGE, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, &options));
    options.has_quant_min = options.has_quant_max = 0;
    options.round_mode = (piquant_round_mode_t)2;
    EXPECT(PIQUANT_ERROR_ROUND_MODE, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, &options));
    options.round_mode = PIQUANT_NEAREST;
    options.reduce_op = (piquant_reduce_op_t)2;
    EXPECT(PIQUANT_ERROR_REDUCE_OP, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, &options));
    options.reduce_op = PIQUANT_SET;
    options.struct_size = 0;
    EXPECT(PIQUANT_ERROR_OPTIONS, QUANTIZE(context, values, PIQUANT_FLOAT32, out, PIQUANT_INT8, 7, 1, 0, &options));
    options.struct_size = sizeof options;
#undef QUANTIZE
    CHECK(memcmp(out, before, sizeof out) == 0);

#define PARAMETERS(in, type, count, o) \
    piquant_compute_quant_params(context, in, PIQUANT_FLOAT32, type, count, o, &scale, &zero_point)
    EXPECT(PIQUANT_ERROR_EMPTY, PARAMETERS(values, PIQUANT_INT8, 0, NULL));
    EXPECT(PIQUANT_ERROR_NOT_FINITE, PARAMETERS(not_finite, PIQUANT_INT8, 2, NULL));
    options.has_quant_min = options.has_quant_max = 1;
    options.quant_min = 0;
    options.quant_max = 1;
    EXPECT(PIQUANT_ERROR_DATA_RANGE, PARAMETERS(widest, PIQUANT_UINT8, 2, &options));
    options.symmetric = 1;
    EXPECT(PIQUANT_ERROR_SYMMETRIC_RANGE, PARAMETERS(values, PIQUANT_UINT8, 7, &options));
#undef PARAMETERS
    CHECK(scale == 7 && zero_point == 7);

    EXPECT(PIQUANT_ERROR_NULL, piquant_context_create(NULL, 1));
    EXPECT(PIQUANT_ERROR_NUM_THREADS, piquant_context_create(&other, PIQUANT_MAX_THREADS + 1));
    EXPECT(PIQUANT_ERROR_NUM_THREADS, piquant_context_set_num_threads(context, PIQUANT_MAX_THREADS + 1));
    EXPECT(PIQUANT_ERROR_CONTEXT, piquant_context_get_num_threads(NULL, &n));
    EXPECT(PIQUANT_ERROR_ISA, piquant_context_set_isa(context, "mmx"));
    CHECK(other == NULL);
    EXPECT(PIQUANT_OK, piquant_context_destroy(NULL));
}

/* A transposed matrix, every second column of the output, threads of our own, and checks without arrays. */
static size_t one_thread(void* self) {
    (void)self;
    return 1;
}
static int run_here(void* self, size_t n, void (*task)(void* job, size_t i), void* job) {
    (void)self;
    for (size_t i = 0; i < n; ++i) {
        task(job, i);
    }
    return 0;
}

static void layouts(piquant_context_t* context) {
    const float columns[2][3] = {{1, 2, 3}, {4, 5, 6}};
    const size_t shape[] = {3, 2};
    const ptrdiff_t transposed[] = {4, 12};
    const ptrdiff_t second_columns[] = {4, 2};
    const piquant_threads_t threads = {sizeof(piquant_threads_t), one_thread, run_here, NULL};
    int8_t out[12] = {0};
    const int8_t expected[12] = {1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0};
    int64_t lowest = 1;
    int64_t highest = 1;
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    options.rank = 2;
    options.shape = shape;
    options.in_strides = transposed;
    options.out_strides = second_columns;
    options.threads = &threads;
    EXPECT(PIQUANT_OK, piquant_quantize(context, columns, PIQUANT_FLOAT32, out, PIQUANT_INT8, 6, 1, 0, &options));
    CHECK(memcmp(out, expected, sizeof out) == 0);
    EXPECT(PIQUANT_ERROR_SHAPE,
           piquant_quantize(context, columns, PIQUANT_FLOAT32, out, PIQUANT_INT8, 5, 1, 0, &options));
    EXPECT(PIQUANT_OK, piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, 7, NULL));
    EXPECT(PIQUANT_ERROR_ZERO_POINT, piquant_check(PIQUANT_FLOAT32, PIQUANT_INT4, 0.5, 8, NULL));
    EXPECT(PIQUANT_OK, piquant_dtype_range(PIQUANT_INT4_UNPACKED, &lowest, &highest));
    CHECK(lowest == -8 && highest == 7);
}

/* A scale and a zero point for each half of two rows: given, found, and found while quantizing. */
static void blocks(piquant_context_t* context) {
    const float in[2][4] = {{0.0f, 15.0f, -2.0f, 13.0f}, {0.0f, 0.0f, -7.5f, 22.5f}};
    const unsigned char codes_expected[4] = {0xf0, 0xf0, 0x00, 0xf0};
    const float scales_expected[4] = {1.0f, 1.0f, 1.0f, 2.0f};
    const unsigned char zeros_expected[4] = {0, 2, 0, 4};
    const float back_expected[2][4] = {{0.0f, 15.0f, -2.0f, 13.0f}, {0.0f, 0.0f, -8.0f, 22.0f}};
    const size_t shape[] = {2, 4};
    const size_t block_size[] = {1, 2};
    const size_t no_block_size[] = {1, 0};
    const float not_finite[2][4] = {{0, 1, 2, 3}, {4, 5, 6, (float)INFINITY}};
    float scales[4] = {0};
    unsigned char zeros[4] = {9, 9, 9, 9};
    unsigned char codes[4] = {0};
    float back[2][4];
    float fused[2][4];
    size_t bad_block = 99;
    piquant_blocks_t blocks = {sizeof(piquant_blocks_t), 2, NULL, NULL, PIQUANT_FLOAT32, PIQUANT_UINT8, 0};
    blocks.shape = shape;
    blocks.block_size = block_size;

#define PARAMETERS &blocks, scales, zeros, NULL, &bad_block
    EXPECT(PIQUANT_OK, piquant_compute_quant_params_blocks(context, in, PIQUANT_FLOAT32, PIQUANT_UINT4, &blocks, NULL,
                                                           scales, zeros, &bad_block));
    CHECK(memcmp(scales, scales_expected, sizeof scales) == 0);
    CHECK(memcmp(zeros, zeros_expected, sizeof zeros) == 0);
    EXPECT(PIQUANT_OK, piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, PARAMETERS));
    CHECK(memcmp(codes, codes_expected, sizeof codes) == 0);
    EXPECT(PIQUANT_OK, piquant_dequantize_blocks(context, codes, PIQUANT_UINT4, back, PIQUANT_FLOAT32, PARAMETERS));
    CHECK(memcmp(back, back_expected, sizeof back) == 0);
    EXPECT(PIQUANT_OK,
           piquant_quantize_dequantize_blocks(context, in, fused, PIQUANT_FLOAT32, PIQUANT_UINT4, PARAMETERS));
    CHECK(memcmp(fused, back, sizeof fused) == 0);
    memset(scales, 0, sizeof scales);
    memset(zeros, 9, sizeof zeros);
    memset(codes, 9, sizeof codes);
    EXPECT(PIQUANT_OK, piquant_quantize_dynamic(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, &blocks, NULL,
                                                scales, zeros, &bad_block));
    CHECK(memcmp(scales, scales_expected, sizeof scales) == 0);
    CHECK(memcmp(zeros, zeros_expected, sizeof zeros) == 0);
    CHECK(memcmp(codes, codes_expected, sizeof codes) == 0);
    CHECK(bad_block == 99);

    EXPECT(PIQUANT_ERROR_NOT_FINITE, piquant_quantize_dynamic(context, not_finite, PIQUANT_FLOAT32, codes,
                                                              PIQUANT_UINT4, &blocks, NULL, scales, zeros, &bad_block));
    CHECK(bad_block == 3);
    scales[2] = 0;
    memcpy(codes, codes_expected, sizeof codes);
    EXPECT(PIQUANT_ERROR_SCALE,
           piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, PARAMETERS));
    CHECK(bad_block == 2);
    zeros[1] = 16;
    scales[2] = 1;
    EXPECT(PIQUANT_ERROR_ZERO_POINT,
           piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, PARAMETERS));
    CHECK(bad_block == 1);
    blocks.zero_point_dtype = PIQUANT_UINT4;
    EXPECT(PIQUANT_ERROR_PARAM_DTYPE,
           piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, PARAMETERS));
    blocks.zero_point_dtype = PIQUANT_UINT8;
    blocks.block_size = no_block_size;
    EXPECT(PIQUANT_ERROR_BLOCKS,
           piquant_quantize_blocks(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, PARAMETERS));
#undef PARAMETERS
    CHECK(memcmp(codes, codes_expected, sizeof codes) == 0);
}

/* Started again by run.sh with a bad variable. */
static void environment(void) {
    piquant_context_t* context = NULL;
    EXPECT(PIQUANT_ERROR_ENVIRONMENT, piquant_context_create(&context, 0));
    CHECK(context == NULL);
}

static piquant_status_t look_at_plan(void* self, const piquant_plan_t* plan) {
    piquant_plan_t* const seen = (piquant_plan_t*)self;
    CHECK(plan->struct_size == sizeof *plan && plan->rank == 1 && plan->dimensions[0].size == plan->n);
    CHECK(plan->dimensions[0].in_stride == 4 && plan->dimensions[0].out_stride == 1);
    CHECK(plan->dimensions[0].block == (plan->blocks == 0 ? 6 : 3) && plan->quant_min == -128 &&
          plan->quant_max == 127);
    *seen = *plan;
    return plan->seed == 13 ? PIQUANT_ERROR_DEVICE : PIQUANT_OK;
}

static void devices(void) {
    piquant_plan_t seen;
    piquant_device_t device = {sizeof device, look_at_plan, NULL};
    piquant_context_t* context = NULL;
    const size_t shape[2] = {2, 3}, block_size[2] = {1, 3};
    piquant_blocks_t rows = {sizeof rows, 2, NULL, NULL, PIQUANT_FLOAT16, PIQUANT_INT8, 5};
    piquant_options_t options = PIQUANT_OPTIONS_INIT;
    /* Addresses of nothing: the library reads none of them. */
    const void* const in = (const void*)(uintptr_t)4096;
    void *const out = (void*)(uintptr_t)8192, *const scales = (void*)(uintptr_t)12288;
    double scale = 0;
    int64_t zero_point = 0;
    memset(&seen, 0, sizeof seen);
    EXPECT(PIQUANT_ERROR_NULL, piquant_context_create_on_device(&context, NULL));
    EXPECT(PIQUANT_ERROR_NULL, piquant_context_create_on_device(NULL, &device));
    device.run = NULL;
    EXPECT(PIQUANT_ERROR_DEVICE, piquant_context_create_on_device(&context, &device));
    device.run = look_at_plan;
    device.self = &seen;
    EXPECT(PIQUANT_OK, piquant_context_create_on_device(&context, &device));
    EXPECT(PIQUANT_OK, piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 6, 0.25, -7, &options));
    CHECK(seen.operation == PIQUANT_QUANTIZE && seen.in == in && seen.out == out && seen.n == 6 && seen.blocks == 0);
    CHECK(seen.scale == 0.25 && seen.inverse == 4 && seen.zero_point == -7 && seen.offset == 0);
    rows.shape = shape;
    rows.block_size = block_size;
    EXPECT(PIQUANT_OK, piquant_quantize_dynamic(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, &rows, &options,
                                                scales, (char*)scales + 64, NULL));
    CHECK(seen.operation == PIQUANT_QUANTIZE_DYNAMIC && seen.blocks == 2 && seen.scales == scales);
    CHECK(seen.scale_dtype == PIQUANT_FLOAT16 && seen.dimensions != NULL);
    seen.n = 0;
    EXPECT(PIQUANT_OK, piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 0, 0.25, 0, &options));
    EXPECT(PIQUANT_ERROR_OVERLAP,
           piquant_quantize(context, in, PIQUANT_FLOAT32, (void*)(uintptr_t)4100, PIQUANT_INT8, 6, 0.25, 0, &options));
    EXPECT(PIQUANT_ERROR_SCALE, piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 6, 0.0, 0, &options));
    CHECK(seen.n == 0);
    EXPECT(PIQUANT_ERROR_CONTEXT,
           piquant_compute_quant_params(context, in, PIQUANT_FLOAT32, PIQUANT_INT8, 6, &options, &scale, &zero_point));
    options.seed = 13;
    EXPECT(PIQUANT_ERROR_DEVICE,
           piquant_quantize(context, in, PIQUANT_FLOAT32, out, PIQUANT_INT8, 6, 0.25, 0, &options));
    EXPECT(PIQUANT_OK, piquant_context_destroy(context));
}

int main(int argc, char** argv) {
    if (argc > 1 && strcmp(argv[1], "bad-environment") == 0) {
        environment();
    } else {
        piquant_context_t* context = NULL;
        describe();
        EXPECT(PIQUANT_OK, piquant_context_create(&context, 2));
        if (context == NULL) {
            return 1;
        }
        settings(context);
        transforms(context);
        large(context);
        parameters(context);
        errors(context);
        layouts(context);
        blocks(context);
        devices();
        EXPECT(PIQUANT_OK, piquant_context_destroy(context));
    }
    return failures == 0 ? 0 : 1;
}
