# What containers have that ask for no profile of their own. Loaded by sextant node.
#include <tunables/global>

profile sextant-default flags=(attach_disconnected, mediate_deleted) {
  #include <abstractions/base>

  # Capabilities, the network and files have their own limits: what is below is taken away from them.
  capability,
  network,
  file,
  umount,

  # Signals come from the shim and the host, and go among containers.
  signal (receive) peer=unconfined,
  signal (send, receive) peer=sextant-default,
  ptrace (read, trace, readby, tracedby) peer=sextant-default,

  # A mount could lay open what is masked.
  deny mount,

  # Kernel parameters, memory and the machine's switches.
  deny @{PROC}/sys/** wl,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,
  deny @{PROC}/mem rwklx,
  deny @{PROC}/kmem rwklx,
  deny @{PROC}/acpi/** wl,
  deny @{PROC}/irq/** wl,

  # Of /sys only a container's own cgroup is its to write to.
  deny @{sys}/[^f]*/** wklx,
  deny @{sys}/firmware/** rwklx,
  deny @{sys}/fs/[^c]*/** wklx,
  deny @{sys}/kernel/security/** rwklx,
}
