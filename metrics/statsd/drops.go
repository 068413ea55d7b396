package statsd

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// memInfo is what the kernel says of a socket (SO_MEMINFO); the last of its numbers are the datagrams that it dropped.
type memInfo [9]uint32

// countDrops adds what the kernel has dropped since it was asked last.
func (r *Receiver) countDrops() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sockets {
		now, ok := s.dropped()
		if !ok {
			continue
		}
		r.decoder.stats.lost.WithLabelValues("kernel").Add(float64(now - r.drops[s])) // the kernel's counter wraps as this does
		r.drops[s] = now
	}
}

func (s *socket) dropped() (n uint32, ok bool) {
	var info memInfo
	size := uint32(unsafe.Sizeof(info))
	err := s.raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // getsockopt has no other form for a list
		ok = errno == 0 && size == uint32(unsafe.Sizeof(info))
	})
	return info[8], ok && err == nil
}
