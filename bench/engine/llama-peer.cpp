// llama.cpp's library, driven directly, as a peer of `npm run bench:engine`. It answers each line
// on stdin with a line of JSON; commands.ts tells the commands and the answers.
//
//   llama-peer FOLDER_OF_THE_LIBRARIES MODEL.gguf THREADS
//
// What it does for speed is what llama.cpp's own server does: a thread pool of its own that stays
// attached, and the library's default of polling for work before sleeping.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "llama.h"

using Tokens = std::vector<llama_token>;

[[noreturn]] static void fail(const std::string &message) {
    std::fprintf(stderr, "llama-peer: %s\n", message.c_str());
    std::exit(1);
}

static double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

/** Bytes of this process that are in memory (proc_pid_statm(5)); 0 where that is not to be had. */
static long resident_bytes() {
    std::ifstream statm("/proc/self/statm");
    long size = 0, resident = 0;
    statm >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
}

/** The thread pool is reached by name: which build of the backend is loaded depends on the CPU. */
static ggml_threadpool *new_threadpool(int threads) {
    auto *device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    if (device == nullptr) fail("no CPU backend could be loaded");
    auto *registry = ggml_backend_dev_backend_reg(device);
    auto *create = reinterpret_cast<ggml_threadpool *(*)(ggml_threadpool_params *)>(
        ggml_backend_reg_get_proc_address(registry, "ggml_threadpool_new"));
    if (create == nullptr) fail("the CPU backend has no thread pool");
    ggml_threadpool_params params = ggml_threadpool_params_default(threads);
    return create(&params);
}

class Peer {
  public:
    Peer(const char *model_path, int threads) : threads_(threads) {
        model_ = llama_model_load_from_file(model_path, llama_model_default_params());
        if (model_ == nullptr) fail(std::string("cannot load ") + model_path);
        vocabulary_ = llama_vocab_n_tokens(llama_model_get_vocab(model_));
        pool_ = new_threadpool(threads);
        context(8, 256, 512);
    }

    /** Greedy answers of `tokens` tokens to all prompts, a batch a step; timed after the first. */
    void decode(int tokens, const std::vector<Tokens> &prompts) {
        auto *ctx = context(static_cast<int>(prompts.size()), 256, 512);
        llama_memory_clear(llama_get_memory(ctx), true);
        Tokens drawn = run(ctx, prompts, 0);
        const Tokens first = drawn;
        const double start_ms = now_ms();
        for (int i = 1; i < tokens; i++) {
            std::vector<Tokens> next;
            for (const llama_token token : drawn) next.push_back({token});
            drawn = run(ctx, next, static_cast<int>(prompts[0].size()) + i - 1);
        }
        answer((tokens - 1) * prompts.size(), now_ms() - start_ms, first);
    }

    /** Time to the first token of an answer, with pieces of the prompt of 512 and of 1,024 tokens:
     * the better of the two counts. */
    void prefill(const Tokens &prompt) {
        double best_ms = prefill_once(prompt, 512);
        if (prompt.size() > 512) best_ms = std::min(best_ms, prefill_once(prompt, 1024));
        answer(prompt.size(), best_ms, first_);
    }

  private:
    llama_model *model_;
    ggml_threadpool *pool_;
    int threads_;
    int vocabulary_;
    Tokens first_;
    std::map<std::vector<int>, llama_context *> contexts_;

    double prefill_once(const Tokens &prompt, int piece) {
        auto *ctx = context(1, 1280, piece);
        llama_memory_clear(llama_get_memory(ctx), true);
        const double start_ms = now_ms();
        for (size_t at = 0; at < prompt.size(); at += piece) {
            const auto end = prompt.begin() + std::min(prompt.size(), at + piece);
            first_ = run(ctx, {Tokens(prompt.begin() + at, end)}, static_cast<int>(at));
        }
        return now_ms() - start_ms;
    }

    llama_context *context(int sequences, int positions, int piece) {
        llama_context *&ctx = contexts_[{sequences, positions, piece}];
        if (ctx != nullptr) return ctx;
        llama_context_params params = llama_context_default_params();
        params.n_ctx = sequences * positions;
        params.n_batch = piece;
        params.n_ubatch = piece;
        params.n_seq_max = sequences;
        params.n_threads = threads_;
        params.n_threads_batch = threads_;
        ctx = llama_init_from_model(model_, params);
        if (ctx == nullptr) fail("cannot create a context");
        llama_attach_threadpool(ctx, pool_, nullptr);
        return ctx;
    }

    /** Takes up the tokens of each sequence at `position`, and draws the next token of each. */
    Tokens run(llama_context *ctx, const std::vector<Tokens> &sequences, int position) {
        size_t count = 0;
        for (const Tokens &tokens : sequences) count += tokens.size();
        llama_batch batch = llama_batch_init(static_cast<int>(count), 0, 1);
        std::vector<int> last;
        for (size_t sequence = 0; sequence < sequences.size(); sequence++) {
            const Tokens &tokens = sequences[sequence];
            for (size_t i = 0; i < tokens.size(); i++) {
                const int at = batch.n_tokens++;
                batch.token[at] = tokens[i];
                batch.pos[at] = position + static_cast<int>(i);
                batch.n_seq_id[at] = 1;
                batch.seq_id[at][0] = static_cast<llama_seq_id>(sequence);
                batch.logits[at] = i + 1 == tokens.size();
            }
            last.push_back(batch.n_tokens - 1);
        }
        if (llama_decode(ctx, batch) != 0) fail("llama_decode failed");
        Tokens drawn;
        for (const int at : last) {
            const float *logits = llama_get_logits_ith(ctx, at);
            drawn.push_back(std::max_element(logits, logits + vocabulary_) - logits);
        }
        llama_batch_free(batch);
        return drawn;
    }

    static void answer(size_t tokens, double ms, const Tokens &first) {
        std::printf("{\"tokens\":%zu,\"ms\":%.3f,\"firstTokens\":[", tokens, ms);
        for (size_t i = 0; i < first.size(); i++) std::printf(i > 0 ? ",%d" : "%d", first[i]);
        std::printf("]}\n");
    }
};

/** Token ids with commas between them. */
static Tokens parse_tokens(const std::string &text) {
    Tokens tokens;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) tokens.push_back(std::stoi(part));
    return tokens;
}

static void obey(Peer &peer, const std::string &line, long resident_at_start) {
    std::stringstream words(line);
    std::string name, prompt;
    words >> name;
    if (name == "memory") {
        std::printf("{\"bytes\":%ld}\n", resident_bytes() - resident_at_start);
    } else if (name == "prefill") {
        words >> prompt;
        peer.prefill(parse_tokens(prompt));
    } else if (name == "decode") {
        int tokens = 0;
        std::vector<Tokens> prompts;
        words >> tokens;
        while (words >> prompt) prompts.push_back(parse_tokens(prompt));
        peer.decode(tokens, prompts);
    } else {
        fail("unknown command: " + name);
    }
    std::fflush(stdout);
}

int main(int count, char **arguments) {
    if (count != 4) fail("usage: llama-peer FOLDER_OF_THE_LIBRARIES MODEL.gguf THREADS");
    const long resident_at_start = resident_bytes();
    llama_log_set(
        [](ggml_log_level level, const char *text, void *) {
            if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
        },
        nullptr);
    const double start_ms = now_ms();
    ggml_backend_load_all_from_path(arguments[1]);
    llama_backend_init();
    Peer peer(arguments[2], std::atoi(arguments[3]));
    std::printf("{\"loadMs\":%.1f}\n", now_ms() - start_ms);
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) obey(peer, line, resident_at_start);
    // The process ends here; so does all that it has.
    std::fflush(stdout);
    _exit(0);
}
