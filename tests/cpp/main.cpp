// Runs every kernel of csrc/cpu on the vectors of the files named, with each instruction set's kernels that run here
// and with each way of running loops, and compares with the reference. Exits with 1 when anything is wrong.
#include <cstdio>
#include <exception>
#include <set>
#include <string>
#include <thread>

#include "compare.h"
#include "isa_under_test.h"
#include "ops.h"

namespace {

const depthsr::FusedKernels* under_test = nullptr;

struct Loop {
  const char* name;
  depthsr::ParallelFor run;
};
constexpr Loop LOOPS[] = {{"whole", whole}, {"backwards in pieces", backwards_in_pieces}, {"on threads", on_threads}};

struct Worst {
  double share = 0;
  std::string where;
};

class Judge {
 public:
  void wrong(const Run& run, const char* loop, const std::string& what) {
    ++failures_;
    std::printf("WRONG  %s, %s, %s: %s\n", run.given.name.c_str(), run.kernels.name, loop, what.c_str());
  }

  void judge(const Run& run, const char* loop) {
    for (const auto& [key, expected] : run.given.expected) {
      const auto found = run.results.find(key);
      if (found == run.results.end()) {
        wrong(run, loop, "no result " + key);
        continue;
      }
      const Output& result = found->second;
      if (!result.guards_intact()) wrong(run, loop, key + ": written outside of the memory given");
      const std::string looser = "tolerance of bf16 products." + key;
      const bool loose = run.kernels.bf16_products && run.given.has(looser);
      const std::string own = loose ? looser : "tolerance." + key;
      const double allowed = run.given.has(own) ? run.given.real(own) : tolerance(result.type());
      const double share = error_share(result, expected, allowed);
      if (!(share <= 1)) wrong(run, loop, key + ": error is " + std::to_string(share) + " of what is allowed");
      Worst& worst = worst_[run.given.op + "." + key + " " + result.type()];
      if (share >= worst.share) worst = {share, run.given.name + ", " + run.kernels.name};
    }
    ++runs_;
  }

  int report(std::int64_t cases) const {
    for (const auto& [result, worst] : worst_)
      std::printf("%-36s worst error %5.3f of what is allowed: %s\n", result.c_str(), worst.share, worst.where.c_str());
    std::printf("%lld cases, %lld runs, %lld wrong\n", static_cast<long long>(cases), static_cast<long long>(runs_),
                static_cast<long long>(failures_));
    return failures_ == 0 && cases > 0 ? 0 : 1;
  }

 private:
  std::map<std::string, Worst> worst_;
  std::int64_t runs_ = 0, failures_ = 0;
};

// Ops outside of the table do not depend on it, except through fused_kernels().
bool depends_on_table(const Case& given) {
  static const std::set<std::string> dependent{"naf_block",        "naf_block_backward", "joint_bilateral_upsample",
                                               "mix_candidates",   "spread_residuals",   "bilateral_sum",
                                               "make_prior",       "network"};
  return dependent.contains(given.op);
}

void run_case(const Case& given, const depthsr::FusedKernels& kernels, Judge& judge) {
  under_test = &kernels;
  std::map<std::string, Output> first;
  for (const Loop& loop : LOOPS) {
    Run run{given, kernels, loop.run, {}};
    std::string thrown;
    // On a new thread the kernels' scratch memory is new as well, and as large as this case needs it: what lies beyond
    // is not left over from a larger one.
    std::thread([&] {
      try {
        ops().at(given.op)(run);
      } catch (const std::exception& error) {
        thrown = error.what();
      }
    }).join();
    if (!thrown.empty()) {
      judge.wrong(run, loop.name, thrown);
      continue;
    }
    judge.judge(run, loop.name);
    for (const auto& [key, result] : first)
      if (!result.same_bits(run.results.at(key))) judge.wrong(run, loop.name, key + " depends on how the loop is run");
    if (first.empty()) first = std::move(run.results);
  }
}

}  // namespace

// The linker puts this in the place of fused_kernels (--wrap), so that what asks for this processor's table gets the
// one that is being tested.
extern "C" const depthsr::FusedKernels& __wrap__ZN7depthsr13fused_kernelsEv() { return *under_test; }

int main(int count, char** arguments) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);  // what was found before a crash must be seen
  depthsr::ProcessPool::set_threads(3);
  const auto tables = tables_that_run_here();
  std::printf("Instruction sets:");
  for (const auto* table : tables) std::printf(" %s", table->name);
  std::printf("\n");
  Judge judge;
  std::int64_t cases = 0;
  for (int i = 1; i < count; ++i) {
    VectorsFile file(arguments[i]);
    for (Case given; file.next(given); ++cases)
      for (const auto* table : tables) {
        run_case(given, *table, judge);
        if (!depends_on_table(given)) break;
      }
  }
  return judge.report(cases);
}
