/*
 * piquant: floating-point arrays to low-bit integers and back, on CPUs, at the speed of memory.
 *
 * C99, C++-safe. Every call that can fail returns a piquant_status_t; nothing aborts, prints or throws. A call that
 * returns an error has not touched its output, but for piquant_quantize_dynamic with data that is not finite. Contexts
 * may be shared by any number of threads and survive fork().
 *
 * Numerics, with T = double when the float side is float64 and float otherwise:
 *
 *   quantize     y = T(x) * T(1 / scale)         the reciprocal in double, one rounding to T
 *                q = clamp(round(y) + zero_point, quant_min, quant_max), the sum exact
 *                NaN -> quant_min    +inf -> quant_max    -inf -> quant_min
 *   nearest      half to even
 *   stochastic   floor((round_half_even(y * 65536) + u) / 65536), u a 16-bit random word that depends on
 *                (seed, offset + index) only
 *   dequantize   v = T(q - zero_point) * T(scale), the difference exact; set: out = v, add: out = T(out) + v,
 *                rounded half to even to the output type
 *
 * Results are bit-identical on every instruction set, thread count, alignment and partition of the data.
 *
 * Packing: 4- and 2-bit codes lie lowest bits first, element 0 in the low bits of byte 0; signed codes are two's
 * complement in their field; a last partial byte is padded with zero bits. n elements take piquant_size(dtype, n)
 * bytes. Of the unpacked 4- and 2-bit dtypes each code has a byte of its own, whose other bits are written as zero and
 * not looked at.
 *
 * Layout: arrays are n elements side by side, unless the options give a shape and strides.
 *
 * Zero points and ranges are int64_t. For PIQUANT_UINT64 they carry the bits of a uint64_t.
 */
#ifndef PIQUANT_QUANT_H
#define PIQUANT_QUANT_H

#include <stddef.h>
#include <stdint.h>

/* PIQUANT_STATIC: the library is a static one. CMake and pkg-config say so by themselves. */
#if defined(_WIN32) && defined(PIQUANT_STATIC)
#define PIQUANT_API
#elif defined(_WIN32)
#if defined(PIQUANT_BUILD)
#define PIQUANT_API __declspec(dllexport)
#else
#define PIQUANT_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define PIQUANT_API __attribute__((visibility("default")))
#else
#define PIQUANT_API
#endif

/* A caller may pass any int where an enum is asked for and gets a status; C++ lets an enum hold one only like this. */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define PIQUANT_AS_INT : int
#else
#define PIQUANT_AS_INT
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct piquant_context piquant_context_t;

typedef enum piquant_status PIQUANT_AS_INT {
    PIQUANT_OK = 0,
    PIQUANT_ERROR_CONTEXT,         /* the context is NULL */
    PIQUANT_ERROR_BUSY,            /* the context is in use by another thread */
    PIQUANT_ERROR_NULL,            /* a pointer is NULL although there is something to read or write */
    PIQUANT_ERROR_FLOAT_DTYPE,     /* the floating-point dtype is not one */
    PIQUANT_ERROR_CODE_DTYPE,      /* the quantized dtype is not one */
    PIQUANT_ERROR_LENGTH,          /* n elements do not fit the address space */
    PIQUANT_ERROR_OVERLAP,         /* input and output share bytes, or are not seen to share none */
    PIQUANT_ERROR_SHAPE,           /* more than PIQUANT_MAX_RANK dimensions, or n is not the product of the shape */
    PIQUANT_ERROR_STRIDES,         /* a stride of the output does not step over what smaller ones span */
    PIQUANT_ERROR_SCALE,           /* not finite and positive, or T(scale) subnormal, or T(1 / scale) infinite */
    PIQUANT_ERROR_ZERO_POINT,      /* outside the range of the quantized dtype */
    PIQUANT_ERROR_QUANT_RANGE,     /* not quant_min < quant_max within the range of the quantized dtype */
    PIQUANT_ERROR_SYMMETRIC_RANGE, /* symmetric, and quant_min < zero_point < quant_max is false */
    PIQUANT_ERROR_ROUND_MODE,      /* not a piquant_round_mode_t */
    PIQUANT_ERROR_REDUCE_OP,       /* not a piquant_reduce_op_t */
    PIQUANT_ERROR_OPTIONS,     /* a struct_size is too small, threads lack a function, or an option is unknown here */
    PIQUANT_ERROR_EMPTY,       /* no data to compute parameters from */
    PIQUANT_ERROR_NOT_FINITE,  /* NaN or infinity in the data to compute parameters from */
    PIQUANT_ERROR_DATA_RANGE,  /* the data spans more than one scale of type T can cover */
    PIQUANT_ERROR_NUM_THREADS, /* not in 1 .. PIQUANT_MAX_THREADS */
    PIQUANT_ERROR_ISA,         /* no such instruction set, or not on this CPU */
    PIQUANT_ERROR_ENVIRONMENT, /* a PIQUANT_* environment variable holds no valid value */
    PIQUANT_ERROR_MEMORY,      /* out of memory */
    PIQUANT_ERROR_CPU,         /* the library was compiled for a CPU with more instructions than this one */
    PIQUANT_ERROR_BLOCKS,      /* the blocks are NULL, of a wrong struct_size or rank, or a block size is 0 */
    PIQUANT_ERROR_PARAM_DTYPE, /* no float dtype for scales, or no dtype of integers of 8 bits or more for zero points */
    PIQUANT_ERROR_DEVICE       /* a device lacks its function, or did not carry out the call */
} piquant_status_t;

typedef enum piquant_dtype PIQUANT_AS_INT {
    PIQUANT_FLOAT16 = 0,
    PIQUANT_BFLOAT16,
    PIQUANT_FLOAT32,
    PIQUANT_FLOAT64,
    PIQUANT_INT2,
    PIQUANT_UINT2,
    PIQUANT_INT4,
    PIQUANT_UINT4,
    PIQUANT_INT8,
    PIQUANT_UINT8,
    PIQUANT_INT16,
    PIQUANT_UINT16,
    PIQUANT_INT32,
    PIQUANT_UINT32,
    PIQUANT_INT64,
    PIQUANT_UINT64,
    PIQUANT_INT2_UNPACKED, /* one code in each byte */
    PIQUANT_UINT2_UNPACKED,
    PIQUANT_INT4_UNPACKED,
    PIQUANT_UINT4_UNPACKED
} piquant_dtype_t;

typedef enum piquant_round_mode PIQUANT_AS_INT { PIQUANT_NEAREST = 0, PIQUANT_STOCHASTIC } piquant_round_mode_t;
typedef enum piquant_reduce_op PIQUANT_AS_INT { PIQUANT_SET = 0, PIQUANT_ADD } piquant_reduce_op_t;

#define PIQUANT_MAX_THREADS 1024
#define PIQUANT_MAX_RANK 64

/*
 * Threads of a framework, which a call may use instead of the context's own, so that one team serves the whole program.
 * Both functions may be called by any thread that calls the library, by several at once, and must not throw.
 */
typedef struct piquant_threads {
    size_t struct_size; /* sizeof(piquant_threads_t) */
    /* How many there are for a call that begins now, the calling thread included; 0: none, use the context's own. */
    size_t (*count)(void* self);
    /*
     * Calls task(job, i) for all i below n, on any of them, and returns 0 once all calls have returned. Another result
     * says that it did not make them all; the calling thread then does what is left. None may be running by then.
     */
    int (*run)(void* self, size_t n, void (*task)(void* job, size_t i), void* job);
    void* self;
} piquant_threads_t;

/*
 * What a call may be told beyond its arguments. NULL in place of a pointer to it means PIQUANT_OPTIONS_INIT.
 *
 * Later versions may add fields at the end, for which zero is the default. struct_size tells which fields there are: a
 * smaller one leaves the rest at their defaults; what a larger one has beyond this version must be zero.
 *
 * With rank > 0 the arrays have a shape, of n elements in all, and elements are counted in row-major order, whatever
 * the strides. Strides are bytes between neighbours along a dimension, may be negative, and 0 repeats an element of an
 * input; NULL stands for row-major order without gaps. Of 4- and 2-bit codes that share bytes, the last dimension is
 * packed: each row of it begins with a byte, its codes lie side by side, and its own stride is not looked at.
 *
 * In an output, each stride must step over all that the dimensions of smaller strides span. Input and output may lie
 * among each other, as the left and the right halves of the rows of a matrix do: without the dimensions whose strides
 * are multiples of one stride of the output, both must be apart, however often it is added.
 */
typedef struct piquant_options {
    size_t struct_size;              /* sizeof(piquant_options_t) */
    piquant_round_mode_t round_mode; /* quantize, quantize_dequantize */
    piquant_reduce_op_t reduce_op;   /* dequantize, quantize_dequantize */
    uint64_t seed;                   /* stochastic rounding: selects the sequence of random words */
    uint64_t offset;                 /* stochastic rounding: index of element 0 in that sequence */
    int has_quant_min;               /* not 0: quant_min is given, else it is the smallest code of the dtype */
    int has_quant_max;               /* not 0: quant_max is given, else it is the largest code of the dtype */
    int64_t quant_min;
    int64_t quant_max;
    int symmetric;       /* compute_quant_params: not 0 for a range around zero */
    size_t rank;         /* dimensions, at most PIQUANT_MAX_RANK; 0: n elements side by side */
    const size_t* shape; /* elements along each dimension */
    const ptrdiff_t* in_strides;
    const ptrdiff_t* out_strides;
    /*
     * NULL: the context's own threads. Else the most of these that a call uses is PIQUANT_NUM_THREADS, if that was set
     * when the context was made, and calls that move less than twice the serial cut-off use none. Children of fork() do
     * not use them.
     */
    const piquant_threads_t* threads;
    /*
     * Functions with blocks. Not 0: a NaN is a scale, that of a block whose data are not finite, or span more than a scale
     * can cover. Instead of an error such a block gets a NaN for its scale, and 0 for its zero point where there is an
     * array of them. Blocks with a NaN for their scale, whatever its pattern, have codes of 0, whatever the range, and are
     * dequantized to the negative NaN without payload: 0xffc00000, as float16 0xfe00.
     */
    int nan_scales;
} piquant_options_t;

#define PIQUANT_OPTIONS_INIT \
    {sizeof(piquant_options_t), PIQUANT_NEAREST, PIQUANT_SET, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, 0}

/* One sentence about a status, never NULL. */
PIQUANT_API const char* piquant_status_string(piquant_status_t status);

/* "major.minor.patch" */
PIQUANT_API const char* piquant_version(void);

/* Lower-case name ("uint4"), or NULL for no dtype. */
PIQUANT_API const char* piquant_dtype_name(piquant_dtype_t dtype);

/* Bits per element, or 0 for no dtype. */
PIQUANT_API int piquant_dtype_bits(piquant_dtype_t dtype);

/* Bytes that n elements take side by side, at most SIZE_MAX; 0 for no dtype. */
PIQUANT_API size_t piquant_size(piquant_dtype_t dtype, size_t n);

/* Smallest and largest code of a quantized dtype. */
PIQUANT_API piquant_status_t piquant_dtype_range(piquant_dtype_t dtype, int64_t* lowest, int64_t* highest);

/*
 * num_threads counts the calling thread; 0 chooses min(CPUs this process may run on, CPU quota of its cgroup) or what
 * the environment variable PIQUANT_NUM_THREADS says. Threads start with the first call that uses them.
 * PIQUANT_ISA=scalar|sse42|avx2|avx512|neon lowers the instruction set.
 */
PIQUANT_API piquant_status_t piquant_context_create(piquant_context_t** context, size_t num_threads);

/* PIQUANT_ERROR_BUSY, and no effect, while another thread is inside a call with it. NULL is allowed. */
PIQUANT_API piquant_status_t piquant_context_destroy(piquant_context_t* context);

/* Seen by the next call. 0 chooses as in piquant_context_create. */
PIQUANT_API piquant_status_t piquant_context_set_num_threads(piquant_context_t* context, size_t num_threads);
PIQUANT_API piquant_status_t piquant_context_get_num_threads(const piquant_context_t* context, size_t* num_threads);

/* The instruction sets that this CPU can run, best first; NULL from the first index without one. */
PIQUANT_API const char* piquant_available_isa(size_t index);

/* Name of the instruction set in use; set: one of the available ones, seen by the next call. */
PIQUANT_API piquant_status_t piquant_context_get_isa(const piquant_context_t* context, const char** name);
PIQUANT_API piquant_status_t piquant_context_set_isa(piquant_context_t* context, const char* name);

/*
 * Calls that move fewer bytes (read plus written) than the serial cut-off run on the calling thread alone. Of threads
 * that sleep, a call wakes one for each 8 times the cut-off, or all within 40 us of a call that left some asleep; and
 * all where the cut-off is 0. PIQUANT_SERIAL_CUTOFF sets the default.
 */
PIQUANT_API piquant_status_t piquant_context_set_serial_cutoff(piquant_context_t* context, size_t bytes);
PIQUANT_API piquant_status_t piquant_context_get_serial_cutoff(const piquant_context_t* context, size_t* bytes);

/*
 * Calls that move at least this many bytes are taken to work in memory: they write with non-temporal stores, which bypass
 * the caches, and prefetch from further ahead. Raise it where the output is read again at once. Until it is
 * set, here or by PIQUANT_STREAM_THRESHOLD, it is what the last-level caches hold that the threads of a call can run on, 32 MiB for
 * each thread at most; and what is read is that of a call on all threads of the context.
 */
PIQUANT_API piquant_status_t piquant_context_set_stream_threshold(piquant_context_t* context, size_t bytes);
PIQUANT_API piquant_status_t piquant_context_get_stream_threshold(const piquant_context_t* context, size_t* bytes);

/*
 * What a call with these arguments would say of them, whatever the arrays: float_dtype is that of the floating-point side.
 * The layout of the options is not looked at.
 */
PIQUANT_API piquant_status_t piquant_check(piquant_dtype_t float_dtype, piquant_dtype_t code_dtype, double scale,
                                           int64_t zero_point, const piquant_options_t* options);

/* n elements of a float dtype to codes. Uses round_mode, seed, offset, the range and the layout of the options. */
PIQUANT_API piquant_status_t piquant_quantize(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                              void* out, piquant_dtype_t out_dtype, size_t n, double scale,
                                              int64_t zero_point, const piquant_options_t* options);

/* n codes to a float dtype. Uses reduce_op and the layout of the options. */
PIQUANT_API piquant_status_t piquant_dequantize(piquant_context_t* context, const void* in, piquant_dtype_t in_dtype,
                                                void* out, piquant_dtype_t out_dtype, size_t n, double scale,
                                                int64_t zero_point, const piquant_options_t* options);

/*
 * dequantize(quantize(in)) in one pass, in and out of dtype; equal to the two calls bit for bit. out may be in, with the
 * same strides.
 */
PIQUANT_API piquant_status_t piquant_quantize_dequantize(piquant_context_t* context, const void* in, void* out,
                                                         piquant_dtype_t dtype, piquant_dtype_t code_dtype, size_t n,
                                                         double scale, int64_t zero_point,
                                                         const piquant_options_t* options);

/*
 * Scale and zero point for n >= 1 finite elements. Uses the range, symmetric, shape and in_strides of the options.
 *
 *   lo = min(0, min x)    hi = max(0, max x)
 *   scale      = T((hi - lo) / (quant_max - quant_min)), at least the smallest normal T; 1 when lo = hi = 0
 *   zero_point = clamp(round_half_even(quant_min - lo / scale), quant_min, quant_max)
 *   symmetric: zero_point = 0 (signed) or 2^(bits - 1) (unsigned), scale = T(max |x| / m),
 *              m = min(zero_point - quant_min, quant_max - zero_point), 2^(bits - 1) - 1 for the whole range
 */
PIQUANT_API piquant_status_t piquant_compute_quant_params(piquant_context_t* context, const void* in,
                                                          piquant_dtype_t in_dtype, piquant_dtype_t code_dtype,
                                                          size_t n, const piquant_options_t* options, double* scale,
                                                          int64_t* zero_point);

/*
 * Scales and zero points of blocks. An array of a shape is cut into blocks of block_size elements along each
 * dimension, the last of which may have fewer; a size beyond that of the dimension is the whole of it. Parameters are
 * arrays in row-major order, without gaps, of ceil(shape[d] / block_size[d]) entries along each dimension d. That is a
 * scale for each row of a matrix with {1, columns}, for each channel of its last axis with {rows, 1}, for groups of 32
 * with {1, 32}.
 *
 * Each block is quantized and dequantized as an array by itself would be, with the double that its scale is. Random
 * words go by the row-major index of the element in the whole array.
 */
#define PIQUANT_MAX_BLOCK_RANK 8
typedef struct piquant_blocks {
    size_t struct_size;               /* sizeof(piquant_blocks_t) */
    size_t rank;                      /* dimensions, 1 to PIQUANT_MAX_BLOCK_RANK */
    const size_t* shape;              /* elements along each dimension */
    const size_t* block_size;         /* of a block along each dimension, at least 1 */
    piquant_dtype_t scale_dtype;      /* of the array of scales: a float dtype */
    piquant_dtype_t zero_point_dtype; /* of the array of zero points: integers of 8 bits or more */
    int64_t zero_point;               /* that of all blocks where there is no array of them */
} piquant_blocks_t;

/*
 * The functions above, with blocks. Of the options' layout in_strides and out_strides are used, for the shape of the
 * blocks; rank and shape are not looked at. Rows of packed codes begin with a byte.
 *
 * scale and zero_point are arrays of parameters; zero_point may be NULL for blocks->zero_point. Where parameters of a
 * block are bad (PIQUANT_ERROR_SCALE, PIQUANT_ERROR_ZERO_POINT) or its data is (PIQUANT_ERROR_NOT_FINITE,
 * PIQUANT_ERROR_DATA_RANGE), *bad_block becomes the first such block, in row-major order; bad_block may be NULL.
 */
PIQUANT_API piquant_status_t piquant_quantize_blocks(piquant_context_t* context, const void* in,
                                                     piquant_dtype_t in_dtype, void* out, piquant_dtype_t out_dtype,
                                                     const piquant_blocks_t* blocks, const void* scale,
                                                     const void* zero_point, const piquant_options_t* options,
                                                     size_t* bad_block);
PIQUANT_API piquant_status_t piquant_dequantize_blocks(piquant_context_t* context, const void* in,
                                                       piquant_dtype_t in_dtype, void* out, piquant_dtype_t out_dtype,
                                                       const piquant_blocks_t* blocks, const void* scale,
                                                       const void* zero_point, const piquant_options_t* options,
                                                       size_t* bad_block);
PIQUANT_API piquant_status_t piquant_quantize_dequantize_blocks(piquant_context_t* context, const void* in, void* out,
                                                                piquant_dtype_t dtype, piquant_dtype_t code_dtype,
                                                                const piquant_blocks_t* blocks, const void* scale,
                                                                const void* zero_point,
                                                                const piquant_options_t* options, size_t* bad_block);

/*
 * Parameters of each block, as piquant_compute_quant_params of the block would find them. A scale of a dtype narrower
 * than T is rounded up to a number of that dtype, so that the block is still covered, and the zero point follows from
 * that. The dtype of zero points must hold all codes; the array may be NULL where the options say symmetric. An array
 * without elements has no blocks, and that is no error.
 */
PIQUANT_API piquant_status_t piquant_compute_quant_params_blocks(piquant_context_t* context, const void* in,
                                                                 piquant_dtype_t in_dtype, piquant_dtype_t code_dtype,
                                                                 const piquant_blocks_t* blocks,
                                                                 const piquant_options_t* options, void* scale,
                                                                 void* zero_point, size_t* bad_block);

/*
 * piquant_compute_quant_params_blocks, then piquant_quantize_blocks with what it found, reading the data once where
 * blocks lie within the last dimension, or a cache holds the rows of a block. After PIQUANT_ERROR_NOT_FINITE and
 * PIQUANT_ERROR_DATA_RANGE, and only after those, what out, scale and zero_point hold is unspecified.
 */
PIQUANT_API piquant_status_t piquant_quantize_dynamic(piquant_context_t* context, const void* in,
                                                      piquant_dtype_t in_dtype, void* out, piquant_dtype_t out_dtype,
                                                      const piquant_blocks_t* blocks, const piquant_options_t* options,
                                                      void* scale, void* zero_point, size_t* bad_block);

/*
 * A call that was checked, for a device to carry out. Where elements lie: dimensions that merged until as few as possible
 * were left, outermost first, in which elements are visited in row-major order. Of 4- and 2-bit codes that share bytes the
 * last dimension is that of packed rows; its stride on that side means nothing.
 */
typedef struct piquant_dimension {
    size_t size;
    ptrdiff_t in_stride;  /* bytes between neighbours */
    ptrdiff_t out_stride; /* 0 where nothing is written but parameters */
    size_t block;         /* neighbours that share a parameter, at most size */
    size_t parameters;    /* entries between the parameters of neighbouring blocks */
} piquant_dimension_t;

typedef enum piquant_operation PIQUANT_AS_INT {
    PIQUANT_QUANTIZE = 0,
    PIQUANT_DEQUANTIZE,
    PIQUANT_QUANTIZE_DEQUANTIZE,
    PIQUANT_COMPUTE_QUANT_PARAMS,
    PIQUANT_QUANTIZE_DYNAMIC
} piquant_operation_t;

typedef struct piquant_plan {
    size_t struct_size; /* sizeof(piquant_plan_t) of the library */
    piquant_operation_t operation;
    piquant_dtype_t float_dtype;
    piquant_dtype_t code_dtype;
    const void* in; /* of element 0 */
    void* out;      /* NULL to compute parameters */
    size_t n;       /* at least 1 */
    size_t rank;    /* at least 1 */
    const piquant_dimension_t* dimensions;
    size_t blocks;      /* 0: one scale and zero point for all, which are numbers */
    double scale;       /* T(scale) */
    double inverse;     /* T(1 / scale) */
    int64_t zero_point; /* where there is no array of them */
    void* scales;       /* as piquant_blocks_t describes them */
    void* zero_points;  /* or NULL */
    piquant_dtype_t scale_dtype;
    piquant_dtype_t zero_point_dtype;
    piquant_round_mode_t round_mode;
    piquant_reduce_op_t reduce_op;
    int symmetric;
    int64_t quant_min;
    int64_t quant_max;
    uint64_t seed;
    uint64_t offset;
    int nan_scales; /* as piquant_options_t says it */
} piquant_plan_t;

/*
 * What carries out calls in place of this process's threads. `run` gets a plan that is there until it returns, and
 * returns PIQUANT_OK or another status, which the call then returns. It must not throw.
 */
typedef struct piquant_device {
    size_t struct_size; /* sizeof(piquant_device_t) */
    piquant_status_t (*run)(void* self, const piquant_plan_t* plan);
    void* self;
} piquant_device_t;

/*
 * A context whose calls are checked, planned, and handed to the device, which is copied. The library reads and writes none of
 * their arrays, which may lie in another memory: bad parameters of blocks, and data that is not finite, are for the device
 * to deal with. Calls without elements are not handed on. piquant_compute_quant_params, which returns numbers, gives
 * PIQUANT_ERROR_CONTEXT.
 */
PIQUANT_API piquant_status_t piquant_context_create_on_device(piquant_context_t** context,
                                                              const piquant_device_t* device);

/*
 * Call on freshly allocated memory before writing to it for the first time: asks for huge pages where that pays, which
 * makes first writes to large outputs about three times cheaper. Never fails and never changes contents.
 */
PIQUANT_API void piquant_prepare_output(void* memory, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
