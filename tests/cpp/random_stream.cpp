// Writes random words to standard output for a statistical test battery:
//
//   random_stream order [seed] | dieharder -a -g 200
//
// order: sequence (consecutive elements of one seed), seeds (one element of consecutive seeds), blocks (one element of
// consecutive blocks), lanes (every 16th element: what one lane of a vector sees).
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/random.hpp"

using piquant::WordSequence;

int main(int argc, char** argv) {
    const char* order = argc > 1 ? argv[1] : "";
    const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 0) : 0;
    std::vector<uint16_t> words(1 << 15);
    WordSequence sequence(seed, 0);
    for (uint64_t i = 0;;) {
        for (uint16_t& w : words) {
            if (std::strcmp(order, "sequence") == 0) {
                w = sequence.next();
            } else if (std::strcmp(order, "seeds") == 0) {
                w = WordSequence(seed + i, 12345, 1).next();
            } else if (std::strcmp(order, "blocks") == 0) {
                w = WordSequence(seed, i << piquant::key_period_bits, 1).next();
            } else if (std::strcmp(order, "lanes") == 0) {
                for (int skip = 0; skip < 15; ++skip) {
                    sequence.next();
                }
                w = sequence.next();
            } else {
                std::fprintf(stderr, "usage: random_stream sequence|seeds|blocks|lanes [seed]\n");
                return 2;
            }
            ++i;
        }
        if (std::fwrite(words.data(), sizeof words[0], words.size(), stdout) != words.size()) {
            return 0;
        }
    }
}
