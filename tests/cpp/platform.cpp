#include "platform.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX 1
#include <windows.h>
// After it.
#include <psapi.h>
#include <tlhelp32.h>

#include <atomic>
#else
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#endif

namespace piquant {
namespace {

[[noreturn]] void give_up(const char* what) {
#if defined(_WIN32)
    std::fprintf(stderr, "%s failed: error %lu\n", what, GetLastError());
#else
    std::perror(what);
#endif
    std::abort();
}

}  // namespace

#if defined(_WIN32)

namespace {

DWORD protection(Access access) {
    return access == Access::write ? PAGE_READWRITE : access == Access::read ? PAGE_READONLY : PAGE_NOACCESS;
}

std::atomic<FaultHandler> current_handler{nullptr};

LONG CALLBACK ask_handler(EXCEPTION_POINTERS* exception) {
    const EXCEPTION_RECORD& record = *exception->ExceptionRecord;
    const FaultHandler handler = current_handler.load();
    const bool is_fault = record.ExceptionCode == EXCEPTION_ACCESS_VIOLATION && record.NumberParameters > 1;
    return is_fault && handler != nullptr && handler(reinterpret_cast<const void*>(record.ExceptionInformation[1]))
               ? EXCEPTION_CONTINUE_EXECUTION
               : EXCEPTION_CONTINUE_SEARCH;
}

}  // namespace

size_t page_bytes() {
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return system.dwAllocationGranularity;
}

unsigned char* reserve_pages(size_t bytes) {
    void* const pages = VirtualAlloc(nullptr, bytes, MEM_RESERVE, PAGE_NOACCESS);
    return pages != nullptr ? static_cast<unsigned char*>(pages) : (give_up("VirtualAlloc"), nullptr);
}

void set_access(void* pages, size_t bytes, Access access) {
    DWORD before;
    if (VirtualAlloc(pages, bytes, MEM_COMMIT, protection(access)) == nullptr ||
        VirtualProtect(pages, bytes, protection(access), &before) == 0) {
        give_up("VirtualProtect");
    }
}

void release_pages(void* pages, size_t) {
    VirtualFree(pages, 0, MEM_RELEASE);
}

// A view cannot replace a part of what is reserved. So address space is looked for, given back, and taken again in three
// pieces; where something else was quicker, in another place.
TwoViews map_twice(size_t bytes, size_t guard, Access access) {
    const HANDLE file = CreateFileMappingA(INVALID_HANDLE_VALUE, nullptr, PAGE_READWRITE,
                                           static_cast<DWORD>(bytes >> 32), static_cast<DWORD>(bytes), nullptr);
    const auto view = [&](Access rights, void* at) {
        const DWORD wanted = rights == Access::write ? FILE_MAP_WRITE : FILE_MAP_READ;
        return static_cast<unsigned char*>(MapViewOfFileEx(file, wanted, 0, 0, bytes, at));
    };
    const auto reserve_at = [&](unsigned char* at) {
        return VirtualAlloc(at, guard, MEM_RESERVE, PAGE_NOACCESS) == at;
    };
    TwoViews views = {nullptr, view(Access::write, nullptr)};
    for (int tries = 0; tries < 100 && views.writable != nullptr; ++tries) {
        unsigned char* const whole = reserve_pages(bytes + 2 * guard);
        release_pages(whole, bytes + 2 * guard);
        views.guarded = view(access, whole + guard);
        const bool before = reserve_at(whole);
        const bool behind = reserve_at(whole + guard + bytes);
        if (views.guarded != nullptr && before && behind) {
            CloseHandle(file);
            return views;
        }
        if (views.guarded != nullptr) {
            UnmapViewOfFile(views.guarded);
        }
        if (before) {
            release_pages(whole, guard);
        }
        if (behind) {
            release_pages(whole + guard + bytes, guard);
        }
    }
    give_up("MapViewOfFileEx");
}

void unmap_twice(const TwoViews& views, size_t bytes, size_t guard) {
    UnmapViewOfFile(views.guarded);
    UnmapViewOfFile(views.writable);
    release_pages(views.guarded - guard, guard);
    release_pages(views.guarded + bytes, guard);
}

FaultHandler on_fault(FaultHandler handler) {
    [[maybe_unused]] static void* const asked = AddVectoredExceptionHandler(1, ask_handler);
    return current_handler.exchange(handler);
}

void write_error(const char* words) {
    DWORD written;
    WriteFile(GetStdHandle(STD_ERROR_HANDLE), words, static_cast<DWORD>(std::strlen(words)), &written, nullptr);
}

void end_after(unsigned seconds, const char* words) {
    static HANDLE timer = nullptr;
    if (timer != nullptr) {
        (void)DeleteTimerQueueTimer(nullptr, timer, nullptr);
        timer = nullptr;
    }
    const auto end = [](void* opaque, BOOLEAN) {
        write_error(static_cast<const char*>(opaque));
        TerminateProcess(GetCurrentProcess(), 1);
    };
    if (seconds != 0 && CreateTimerQueueTimer(&timer, nullptr, end, const_cast<char*>(words), seconds * 1000, 0,
                                              WT_EXECUTEONLYONCE) == 0) {
        give_up("CreateTimerQueueTimer");
    }
}

std::optional<std::string> environment_variable(const char* name) {
    char value[32768];  // none is longer
    SetLastError(ERROR_SUCCESS);
    const DWORD length = GetEnvironmentVariableA(name, value, sizeof value);
    return length == 0 && GetLastError() == ERROR_ENVVAR_NOT_FOUND ? std::nullopt : std::optional<std::string>(value);
}

void set_environment_variable(const char* name, const char* value) {
    SetEnvironmentVariableA(name, value);
}

Resources resources() {
    PROCESS_MEMORY_COUNTERS memory = {};
    DWORD handles = 0;
    if (GetProcessMemoryInfo(GetCurrentProcess(), &memory, sizeof memory) == 0 ||
        GetProcessHandleCount(GetCurrentProcess(), &handles) == 0) {
        give_up("GetProcessMemoryInfo");
    }
    Resources r = {memory.WorkingSetSize, handles, 0};
    const HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0);
    THREADENTRY32 thread = {};
    thread.dwSize = sizeof thread;
    for (BOOL some = Thread32First(all, &thread); some != 0; some = Thread32Next(all, &thread)) {
        r.threads += thread.th32OwnerProcessID == GetCurrentProcessId();
    }
    CloseHandle(all);
    return r;
}

#else

namespace {

int protection(Access access) {
    return access == Access::write ? PROT_READ | PROT_WRITE : access == Access::read ? PROT_READ : PROT_NONE;
}

unsigned char* map(void* at, size_t bytes, Access access, int flags, int file) {
    void* const p = mmap(at, bytes, protection(access), flags, file, 0);
    return p != MAP_FAILED ? static_cast<unsigned char*>(p) : (give_up("mmap"), nullptr);
}

constexpr int fault_signals[] = {SIGSEGV, SIGBUS};
FaultHandler current_handler = nullptr;
struct sigaction system_actions[2];

void restore_system_actions() {
    for (int i = 0; i < 2; ++i) {
        sigaction(fault_signals[i], &system_actions[i], nullptr);
    }
}

const char* last_words = nullptr;

}  // namespace

size_t page_bytes() {
    static const auto bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

unsigned char* reserve_pages(size_t bytes) {
    return map(nullptr, bytes, Access::none, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

void set_access(void* pages, size_t bytes, Access access) {
    if (mprotect(pages, bytes, protection(access)) != 0) {
        give_up("mprotect");
    }
}

void release_pages(void* pages, size_t bytes) {
    munmap(pages, bytes);
}

TwoViews map_twice(size_t bytes, size_t guard, Access access) {
    const int file = memfd_create("piquant", 0);
    if (file < 0 || ftruncate(file, static_cast<off_t>(bytes)) != 0) {
        give_up("memfd_create");
    }
    unsigned char* const whole = reserve_pages(bytes + 2 * guard);
    const TwoViews views = {map(whole + guard, bytes, access, MAP_SHARED | MAP_FIXED, file),
                            map(nullptr, bytes, Access::write, MAP_SHARED, file)};
    close(file);
    return views;
}

void unmap_twice(const TwoViews& views, size_t bytes, size_t guard) {
    munmap(views.guarded - guard, bytes + 2 * guard);
    munmap(views.writable, bytes);
}

FaultHandler on_fault(FaultHandler handler) {
    const FaultHandler before = current_handler;
    current_handler = handler;
    if (before == nullptr && handler != nullptr) {
        struct sigaction action = {};
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = [](int, siginfo_t* fault, void*) {
            if (!current_handler(fault->si_addr)) {
                restore_system_actions();  // the fault comes again
            }
        };
        for (int i = 0; i < 2; ++i) {
            sigaction(fault_signals[i], &action, &system_actions[i]);
        }
    } else if (before != nullptr && handler == nullptr) {
        restore_system_actions();
    }
    return before;
}

void write_error(const char* words) {
    (void)!write(STDERR_FILENO, words, std::strlen(words));
}

void end_after(unsigned seconds, const char* words) {
    last_words = words;
    signal(SIGALRM, [](int) {
        write_error(last_words);
        _exit(1);
    });
    alarm(seconds);
}

std::optional<std::string> environment_variable(const char* name) {
    const char* value = getenv(name);
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

void set_environment_variable(const char* name, const char* value) {
    value != nullptr ? setenv(name, value, 1) : unsetenv(name);
}

#if defined(PIQUANT_TESTS_COUNT_RESOURCES)
Resources resources() {
    const auto entries = [](const char* directory) {
        return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(directory), {}));
    };
    size_t total = 0;
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> total >> pages;
    return {pages * page_bytes(), entries("/proc/self/fd"), entries("/proc/self/task")};
}
#endif

#endif

}  // namespace piquant
