#include "common/commandline/foreign_options.h"

#include <array>

namespace godwit {
namespace {

struct Foreign {
  std::string_view name, letter, reason;
};

constexpr std::string_view files = "files are opened by their own paths";
constexpr std::string_view mounts = "mounts are not carried";
constexpr std::string_view cgroups = "control groups are not carried: the process is restored into the caller's";
constexpr std::string_view security = "labels of security modules are not carried";
constexpr std::string_view network = "network namespaces are not carried by these commands";
constexpr std::string_view one_way = "there is one way of doing it";
constexpr std::string_view whole =
    "every page is there when the process runs: `godwit migrate` copies them before instead";

constexpr std::array options{
    Foreign{"--lazy-pages", "", whole},
    Foreign{"--stream", "", "images are files"},
    Foreign{"--image-io-mode", "", one_way},
    Foreign{"--pre-dump-mode", "", one_way},
    Foreign{"--external", "", files},
    Foreign{"--inherit-fd", "", files},
    Foreign{"--root", "-r", mounts},
    Foreign{"--ext-mount-map", "-M", mounts},
    Foreign{"--skip-mnt", "", mounts},
    Foreign{"--enable-fs", "", mounts},
    Foreign{"--enable-external-sharing", "", mounts},
    Foreign{"--enable-external-masters", "", mounts},
    Foreign{"--mntns-compat-mode", "", mounts},
    Foreign{"--force-irmap", "", "inotify watches are found by path"},
    Foreign{"--irmap-scan-path", "", "inotify watches are found by path"},
    Foreign{"--manage-cgroups", "", cgroups},
    Foreign{"--cgroup-root", "", cgroups},
    Foreign{"--cgroup-props", "", cgroups},
    Foreign{"--cgroup-props-file", "", cgroups},
    Foreign{"--cgroup-props-ignore-default", "", cgroups},
    Foreign{"--cgroup-dump-controller", "", cgroups},
    Foreign{"--cgroup-yard", "", cgroups},
    Foreign{"--freeze-cgroup", "", "the process itself is stopped, whatever its control group"},
    Foreign{"--lsm-profile", "", security},
    Foreign{"--lsm-mount-context", "", security},
    Foreign{"--veth-pair", "", network},
    Foreign{"--join-ns", "-J",
            "the process is restored into the caller's namespaces, or with --namespaces into a new one"},
    Foreign{"--empty-ns", "", network},
    Foreign{"--network-lock", "", network},
    Foreign{"--skip-in-flight", "", "established TCP connections are not carried yet"},
    Foreign{"--ghost-limit", "", "deleted files of up to 1 MiB are carried"},
    Foreign{"--ghost-fiemap", "", one_way},
    Foreign{"--evasive-devices", "", "no device is replaced by another"},
    Foreign{"--close", "", "a descriptor of the command's own is closed by the shell: `9>&-`"},
    Foreign{"--version", "-V", "`godwit --version` says it"},
    Foreign{"--exec-cmd", "", "the restored process is waited for, or left alone with --restore-detached"},
    Foreign{"--cpu-cap", "", "`godwit cpuinfo check` compares processors"},
    Foreign{"--file-validation", "", "sizes and build-ids are always compared"},
    Foreign{"--skip-file-rwx-check", "", "sizes, modes and build-ids are always compared"},
    Foreign{"--unprivileged", "", "root is needed"},
    Foreign{"--weak-sysctls", "", "no sysctl is changed"},
    Foreign{"--libdir", "-L", "there are no plugins"},
    Foreign{"--daemon", "", "`&` or a service manager does that"},
    Foreign{"--service", "", "there is no service: godwit-agent is the daemon"},
    Foreign{"--config", "", "there is no configuration file"},
    Foreign{"--no-default-config", "", "there is no configuration file"},
    Foreign{"--display-stats", "", "`godwit image show stats-dump` prints them"},
    Foreign{"--log-pid", "", "one process writes one log"},
    Foreign{"--ps-socket", "", "give --address and --port"},
    Foreign{"--deprecated", "", one_way},
    Foreign{"--feature", "", "`godwit check` lists them all"},
    Foreign{"--ms", "", "`godwit check` lists everything"},
    Foreign{"--extra", "", "`godwit check` lists everything"},
    Foreign{"--experimental", "", "`godwit check` lists everything"},
    Foreign{"--all", "", "`godwit check` lists everything"},
    Foreign{"--allow-uprobes", "", "probes of the kernel are not looked at"},
};

}  // namespace

std::optional<std::string> reason_against(std::string_view word) {
  const std::string_view name = word.substr(0, word.find('='));
  for (const Foreign& o : options)
    if (name == o.name || (!o.letter.empty() && name.starts_with(o.letter))) return std::string(o.reason);
  if (name.starts_with("--no-") && reason_against("--" + std::string(name.substr(5))))
    return "options are off unless they are given";
  return std::nullopt;
}

}  // namespace godwit
