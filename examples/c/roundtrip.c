/*
 * A float array to 4-bit codes and back.
 *
 *     cc roundtrip.c $(python -m piquant --includes --libs) -o roundtrip && ./roundtrip
 */
#include <piquant/quant.h>
#include <stdio.h>

#define N 11

static int check(const char* what, piquant_status_t status) {
    if (status != PIQUANT_OK) {
        fprintf(stderr, "%s: %s\n", what, piquant_status_string(status));
    }
    return status == PIQUANT_OK;
}

int main(void) {
    const float in[N] = {-1.0f, -0.8f, -0.6f, -0.4f, -0.2f, 0.0f, 0.2f, 0.4f, 0.6f, 0.8f, 1.0f};
    unsigned char codes[(N * 4 + 7) / 8]; /* or malloc(piquant_size(PIQUANT_UINT4, N)) */
    float out[N];
    double scale = 0;
    int64_t zero_point = 0;
    piquant_context_t* context = NULL;
    int ok = check("create", piquant_context_create(&context, 0)) &&
             check("parameters", piquant_compute_quant_params(context, in, PIQUANT_FLOAT32, PIQUANT_UINT4, N, NULL,
                                                              &scale, &zero_point)) &&
             check("quantize",
                   piquant_quantize(context, in, PIQUANT_FLOAT32, codes, PIQUANT_UINT4, N, scale, zero_point, NULL)) &&
             check("dequantize",
                   piquant_dequantize(context, codes, PIQUANT_UINT4, out, PIQUANT_FLOAT32, N, scale, zero_point, NULL));
    if (ok) {
        printf("piquant %s: %d floats in %zu bytes, scale %g, zero point %d\n", piquant_version(), N, sizeof codes,
               scale, (int)zero_point);
        for (int i = 0; i < N; ++i) {
            const int code = codes[i / 2] >> (i % 2 * 4) & 15; /* lowest bits first */
            printf("%5.2f -> %2d -> %8.5f\n", in[i], code, out[i]);
            const double error = in[i] > out[i] ? in[i] - out[i] : out[i] - in[i];
            ok = ok && error <= scale * 0.5 + 1e-6;
        }
    }
    piquant_context_destroy(context);
    return ok ? 0 : 1;
}
