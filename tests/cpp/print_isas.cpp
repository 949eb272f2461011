// Prints the instruction set that a new context uses and all that are available, or why there is no context.
#include <piquant/quant.h>
#include <stdio.h>

int main() {
    piquant_context_t* context = nullptr;
    const char* used = nullptr;
    piquant_status_t status = piquant_context_create(&context, 1);
    if (status == PIQUANT_OK) {
        status = piquant_context_get_isa(context, &used);
    }
    if (status != PIQUANT_OK) {
        puts(piquant_status_string(status));
        return 1;
    }
    printf("%s:", used);
    for (size_t i = 0; const char* name = piquant_available_isa(i); ++i) {
        printf(" %s", name);
    }
    puts("");
    return piquant_context_destroy(context) == PIQUANT_OK ? 0 : 1;
}
