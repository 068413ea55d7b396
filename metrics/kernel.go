package metrics

import (
	"bytes"
	"errors"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memInfo is what the kernel says of a socket (SO_MEMINFO); the last of its numbers are the datagrams that it dropped.
type memInfo [9]uint32

func (in *intake) raw() (syscall.RawConn, error) {
	c, ok := in.packets.(syscall.Conn)
	if !ok {
		return nil, errors.New("the socket has no descriptor")
	}
	return c.SyscallConn()
}

// dropped returns how many datagrams the kernel had no room for. Of a unix socket it drops none: the sender is refused, and counts it.
func (in *intake) dropped() (n uint32, ok bool) {
	raw, err := in.raw()
	if err != nil {
		return 0, false
	}
	var info memInfo
	size := uint32(unsafe.Sizeof(info))
	err = raw.Control(func(fd uintptr) {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // getsockopt has no other form for a list
		ok = errno == 0 && size == uint32(unsafe.Sizeof(info))
	})
	return info[8], ok && err == nil
}

func indexNewline(b []byte) int { return bytes.IndexByte(b, '\n') }
