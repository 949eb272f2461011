/* A process with the library: its subnormal numbers stay, NaN has its code, ties and products round as they should. */
#include <math.h>
#include <piquant/quant.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    volatile float tiny = 1e-40f;
    const float x[8] = {NAN, INFINITY, -INFINITY, 0.5f, 1.5f, 2.5f, -0.0f, 1e-40f};
    const int8_t expected[8] = {-128, 127, -128, 0, 2, 2, 0, 0};
    int8_t q[8];
    float y[8];
    piquant_context_t* context;
    int wrong = 0;
    if (tiny * 1.0f == 0) {
        puts("loading the library set flush-to-zero");
        wrong = 1;
    }
    if (piquant_context_create(&context, 1) != PIQUANT_OK ||
        piquant_quantize(context, x, PIQUANT_FLOAT32, q, PIQUANT_INT8, 8, 1.0, 0, NULL) != PIQUANT_OK ||
        piquant_dequantize(context, q, PIQUANT_INT8, y, PIQUANT_FLOAT32, 8, 0.1, 3, NULL) != PIQUANT_OK) {
        puts("a call failed");
        return 1;
    }
    if (memcmp(q, expected, sizeof q) != 0) {
        puts("wrong codes");
        wrong = 1;
    }
    for (int i = 0; i < 8; ++i) {
        volatile float product = (float)(q[i] - 3) * 0.1f;
        if (y[i] != product) {
            printf("%d: %.9g instead of %.9g\n", i, (double)y[i], (double)product);
            wrong = 1;
        }
    }
    return wrong;
}
