#include "agent/engine/commands/options.h"

#include "agent/engine/commands/refusals.h"
#include "common/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::engine::commands {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Words = std::vector<std::string>;

std::string refusal(const Words& words) {
  try {
    parse(words);
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument) << e.message();
    return e.message();
  }
  return "not refused";
}

// tests/compat/options compares with what CRIU's own help says; here are those that it does not mention as well.
constexpr std::string_view foreign[] = {
    "--lazy-pages",
    "--stream",
    "--image-io-mode",
    "--pre-dump-mode",
    "--external",
    "--inherit-fd",
    "--root",
    "-r",
    "--ext-mount-map",
    "-M",
    "--skip-mnt",
    "--enable-fs",
    "--enable-external-sharing",
    "--enable-external-masters",
    "--mntns-compat-mode",
    "--force-irmap",
    "--irmap-scan-path",
    "--manage-cgroups",
    "--cgroup-root",
    "--cgroup-props",
    "--cgroup-props-file",
    "--cgroup-dump-controller",
    "--cgroup-yard",
    "--freeze-cgroup",
    "--lsm-profile",
    "--lsm-mount-context",
    "--veth-pair",
    "--join-ns",
    "-J",
    "--empty-ns",
    "--network-lock",
    "--skip-in-flight",
    "--ghost-limit",
    "--ghost-fiemap",
    "--evasive-devices",
    "--close",
    "--version",
    "-V",
    "--exec-cmd",
    "--cpu-cap",
    "--file-validation",
    "--skip-file-rwx-check",
    "--unprivileged",
    "--weak-sysctls",
    "--libdir",
    "-L",
    "--config",
    "--no-default-config",
    "--display-stats",
    "--log-pid",
    "--ps-socket",
    "--deprecated",
    "--feature",
    "--ms",
    "--extra",
    "--experimental",
    "--all",
    "--allow-uprobes",
};

TEST(Options, of_criu_that_are_not_here_are_refused_with_a_reason) {
  for (const Words& command : {Words{"dump", "-t", "1"}, Words{"pre-dump", "-t", "1"}, Words{"restore"}})
    for (const std::string_view option : foreign) {
      Words words = command;
      words.emplace_back(option);
      EXPECT_THAT(refusal(words), AllOf(HasSubstr(fmt::format("CRIU has {}", option)), HasSubstr("Godwit does not")));
    }
  EXPECT_THAT(refusal({"restore", "-Jnet:12"}), HasSubstr("caller's namespaces"));
  EXPECT_THAT(refusal({"restore", "--root=/x"}), HasSubstr("mounts are not carried"));
  EXPECT_THAT(refusal({"restore", "--no-lazy-pages"}), HasSubstr("CRIU has --no-lazy-pages"));
}

TEST(Options, of_nobody_and_of_other_commands_are_told_apart) {
  EXPECT_THAT(refusal({"dump", "-t", "1", "--nonsense"}), HasSubstr("godwit dump has no option --nonsense"));
  EXPECT_THAT(refusal({"restore", "--track-mem"}), HasSubstr("--track-mem means nothing to godwit restore"));
}

TEST(Options, that_change_nothing_are_taken) {
  EXPECT_TRUE(parse({"pre-dump", "-t", "1", "-R"})->leave_running);
  EXPECT_EQ(parse({"dump", "-t", "1"})->verbosity, 2);
  EXPECT_EQ(parse({"dump", "-v5", "-t", "1"})->verbosity, 4);
  EXPECT_EQ(parse({"dump", "-t", "1"})->timeout_s, 10u);
  EXPECT_GT(parse({"dump", "-t", "1", "--timeout", "0"})->timeout_s, 3600u);
}

Surveyed surveyed(const std::vector<std::string>& options) {
  Surveyed s;
  for (const std::string& option : options) {
    Refusal& r = *s.add_refusals();
    r.set_pid(1);
    r.set_what("something");
    r.set_reason("a reason");
    r.set_option(option);
  }
  return s;
}

std::string refusal(const Surveyed& s, const Words& words) {
  Words all{"dump", "-t", "1"};
  all.insert(all.end(), words.begin(), words.end());
  try {
    refuse_by_name(s, *parse(all));
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::refused);
    return e.message();
  }
  return "not refused";
}

TEST(Options, of_a_shell_job_that_cannot_be_together) {
  const Words job{"restore", "-j"};
  const auto with = [&](const Words& more) {
    Words all = job;
    all.insert(all.end(), more.begin(), more.end());
    return refusal(all);
  };
  EXPECT_THAT(with({"-n"}), HasSubstr("--shell-job and --namespaces"));
  EXPECT_THAT(with({"-d", "-s"}), HasSubstr("told to hang up"));
  EXPECT_EQ(with({"-s"}), "not refused");
  EXPECT_EQ(with({"-d", "-s", "-S"}), "not refused");
}

TEST(Options, the_inode_of_a_unix_socket_is_attached_as_criu_writes_it) {
  for (const std::string said : {"-x", "-x12345", "--ext-unix-sk", "--ext-unix-sk=12345", "--ext-unix-sk=0"}) {
    const auto o = parse({"dump", "-t", "1", said, "-R"});
    EXPECT_TRUE(o && o->unix_sockets && o->leave_running) << said;
  }
  EXPECT_FALSE(parse({"dump", "-t", "1"})->unix_sockets);
}

TEST(Refusals, name_the_option_that_is_about_them) {
  for (const std::string option : {"--shell-job", "--file-locks", "--link-remap", "--tcp-established", "--ext-unix-sk"})
    EXPECT_EQ(refusal(surveyed({option}), {option}),
              fmt::format("something: a reason ({} cannot carry it yet)", option));
}

TEST(Refusals, name_no_option_that_is_about_something_else) {
  const Words all{"--shell-job", "--file-locks", "--link-remap", "--tcp-established", "--ext-unix-sk"};
  EXPECT_EQ(refusal(surveyed({""}), all), "something: a reason");
  EXPECT_EQ(refusal(surveyed({"--file-locks"}), {"--link-remap"}), "something: a reason");
  EXPECT_EQ(refusal(surveyed({"", "--file-locks"}), all),
            "something: a reason; something: a reason (--file-locks cannot carry it yet)");
}

}  // namespace
}  // namespace godwit::engine::commands
