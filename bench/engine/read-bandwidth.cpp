// Prints the bytes a second that so many threads read from memory together, with the widest vectors
// of this CPU.
//
//   read-bandwidth THREADS

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

typedef int64_t Vector __attribute__((vector_size(64)));

static const size_t huge_page = 2u << 20;
static const size_t total_pages = 256;
static const int passes = 8;
static std::atomic<int> arrivals{0};
static std::atomic<int64_t> sink{0};

static double now_seconds() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

static void read_all(size_t bytes, int threads, double *start, double *end) {
    void *memory = std::aligned_alloc(huge_page, bytes);
    if (memory == nullptr) std::exit(1);
    madvise(memory, bytes, MADV_HUGEPAGE);
    std::memset(memory, 1, bytes);
    const Vector *vectors = static_cast<const Vector *>(memory);
    const size_t count = bytes / sizeof(Vector);
    arrivals++;
    while (arrivals < threads) {
        // A thread that slept here would begin later than the others.
    }
    *start = now_seconds();
    Vector a = {}, b = {}, c = {}, d = {};
    for (int pass = 0; pass < passes; pass++) {
        for (size_t i = 0; i < count; i += 4) {
            a += vectors[i];
            b += vectors[i + 1];
            c += vectors[i + 2];
            d += vectors[i + 3];
        }
        // The compiler must not take what the next pass reads for known.
        asm volatile("" ::: "memory");
    }
    *end = now_seconds();
    a += b + c + d;
    sink += a[0] ^ a[7];
    std::free(memory);
}

int main(int count, char **arguments) {
    const int threads = count > 1 ? std::atoi(arguments[1]) : 1;
    const size_t bytes = total_pages / threads * huge_page;
    std::vector<double> starts(threads), ends(threads);
    std::vector<std::thread> readers;
    for (int i = 0; i < threads; i++) {
        readers.emplace_back(read_all, bytes, threads, &starts[i], &ends[i]);
    }
    double start = 0, end = 0;
    for (int i = 0; i < threads; i++) {
        readers[i].join();
        start = i == 0 || starts[i] < start ? starts[i] : start;
        end = ends[i] > end ? ends[i] : end;
    }
    std::printf("%.0f\n", static_cast<double>(bytes) * threads * passes / (end - start));
    return 0;
}
