#include "engine/lent_threads.hpp"

#include <memory>

#include "engine/thread_pool.hpp"

namespace piquant {

size_t LentThreads::count() const {
    return threads_ == nullptr || is_forked_child() ? 0 : threads_->count(threads_->self);
}

// All of the lent threads may be one in fact, as inside a parallel region of theirs: it then does all the work, as every
// participant helps the others.
void LentThreads::run(Run function, void* job, size_t chunks, size_t threads, size_t) {
    constexpr size_t few = 8;  // regions of a cache line each, on the stack
    const size_t count = chunks < threads ? chunks : threads;
    if (count < 2) {
        run_alone(function, job, chunks);
        return;
    }
    Region local[few];
    const std::unique_ptr<Region[]> many(count > few ? new Region[count] : nullptr);
    struct Job {
        Region* regions;
        size_t count;
        Run function;
        void* job;

        static void participate(void* opaque, size_t participant) {
            const auto& j = *static_cast<const Job*>(opaque);
            work_off(j.regions, j.count, participant, j.function, j.job);
        }
    } shared = {many != nullptr ? many.get() : local, count, function, job};
    open_regions(shared.regions, count, chunks);
    if (threads_->run(threads_->self, count, Job::participate, &shared) != 0) {
        Job::participate(&shared, 0);  // whatever is left
    }
}

}  // namespace piquant
