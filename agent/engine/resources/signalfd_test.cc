#include "agent/engine/resources/round_trip.h"

#include <csignal>

#include <gtest/gtest.h>
#include <sys/signalfd.h>

namespace godwit::engine::resources {
namespace {

TEST(Signalfd, keeps_its_mask) {
  EXPECT_EQ("", round_trip(
                    [] {
                      sigset_t set;
                      sigemptyset(&set);
                      sigaddset(&set, SIGUSR1);
                      sigaddset(&set, SIGRTMAX);
                      place(::signalfd(-1, &set, SFD_NONBLOCK), 6);
                    },
                    [] {
                      sigset_t set;
                      sigfillset(&set);
                      ::sigprocmask(SIG_BLOCK, &set, nullptr);
                      std::string wrong;
                      for (const int signal : {SIGUSR1, SIGRTMAX}) {
                        ::raise(signal);
                        signalfd_siginfo info{};
                        wrong += differs("size", ssize_t{sizeof info}, ::read(6, &info, sizeof info));
                        wrong += differs("signal", static_cast<unsigned>(signal), info.ssi_signo);
                      }
                      ::raise(SIGUSR2);
                      return wrong << differs("not in the mask", -1, ::read(6, wrong.data(), 128));
                    }));
}

}  // namespace
}  // namespace godwit::engine::resources
