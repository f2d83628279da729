#include "common/commandline/foreign_options.h"

#include "common/commandline/option_owners.h"

#include <array>

namespace godwit {
namespace {

struct Foreign {
  std::string_view reason;
  std::string_view options;  // with a blank in between
};

constexpr std::array foreign{
    Foreign{"every page is there when the process runs: `godwit migrate` copies them before instead", "--lazy-pages"},
    Foreign{"images are files", "--stream"},
    Foreign{"there is one way of doing it", "--image-io-mode --pre-dump-mode --ghost-fiemap --deprecated"},
    Foreign{"files are opened by their own paths", "--external --inherit-fd"},
    Foreign{"mounts are not carried",
            "--root -r --ext-mount-map -M --skip-mnt --enable-fs --enable-external-sharing --enable-external-masters "
            "--mntns-compat-mode"},
    Foreign{"inotify watches are found by path", "--force-irmap --irmap-scan-path"},
    Foreign{"control groups are not carried: the process is restored into the caller's",
            "--manage-cgroups --cgroup-root --cgroup-props --cgroup-props-file --cgroup-props-ignore-default "
            "--cgroup-dump-controller --cgroup-yard"},
    Foreign{"the process itself is stopped, whatever its control group", "--freeze-cgroup"},
    Foreign{"labels of security modules are not carried", "--lsm-profile --lsm-mount-context"},
    Foreign{"network namespaces are not carried by these commands", "--veth-pair --empty-ns"},
    Foreign{"the process is restored into the caller's namespaces, or with --namespaces into a new one",
            "--join-ns -J"},
    Foreign{"established TCP connections are not carried yet", "--skip-in-flight --network-lock"},
    Foreign{"deleted files of up to 1 MiB are carried", "--ghost-limit"},
    Foreign{"no device is replaced by another", "--evasive-devices"},
    Foreign{"a descriptor of the command's own is closed by the shell: `9>&-`", "--close"},
    Foreign{"`godwit --version` says it", "--version -V"},
    Foreign{"the restored process is waited for, or left alone with --restore-detached", "--exec-cmd"},
    Foreign{"`godwit cpuinfo check` compares processors", "--cpu-cap"},
    Foreign{"sizes and build-ids are always compared", "--file-validation"},
    Foreign{"sizes, modes and build-ids are always compared", "--skip-file-rwx-check"},
    Foreign{"root is needed", "--unprivileged"},
    Foreign{"no sysctl is changed", "--weak-sysctls"},
    Foreign{"there are no plugins", "--libdir -L"},
    Foreign{"there is no service: godwit-agent is the daemon", "--service"},
    Foreign{"there is no configuration file", "--config --no-default-config"},
    Foreign{"`godwit image show stats-dump` prints them", "--display-stats"},
    Foreign{"one process writes one log", "--log-pid"},
    Foreign{"give --address and --port", "--ps-socket"},
    Foreign{"`godwit check` lists them all", "--feature"},
    Foreign{"`godwit check` lists everything", "--ms --extra --experimental --all"},
    Foreign{"probes of the kernel are not looked at", "--allow-uprobes"},
};

}  // namespace

std::optional<std::string> reason_against(std::string_view word) {
  for (const Foreign& group : foreign)
    if (names_one(group.options, word)) return std::string(group.reason);
  if (word.starts_with("--no-") && reason_against("--" + std::string(word.substr(5))))
    return "options are off unless they are given";
  return std::nullopt;
}

}  // namespace godwit
