package metrics

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// datagram is what has arrived at once. Its text holds until the next reading.
type datagram struct {
	text []byte
	from netip.Addr // of a unix socket: the zero value
}

// takeDatagrams reads datagrams, each of which holds a line or several.
func (r *Receiver) takeDatagrams(ctx context.Context, in *intake) {
	defer in.close()
	read := in.reader()
	// Whoever ends reads on for a moment, until nothing comes any more.
	stop := context.AfterFunc(ctx, func() { _ = in.packets.SetReadDeadline(time.Now().Add(lastDatagrams)) })
	defer stop()
	batch := Batch{Source: r.source(), Foreign: true, Records: make([]Record, 0, batchSize)}
	var results [int(reasons)]int
	var from netip.Addr
	looked := time.Now()
	_ = in.packets.SetReadDeadline(looked.Add(time.Second)) // so that drops are counted while nothing comes
	for {
		messages, err := read()
		batch.At = time.Now()
		for _, m := range messages {
			r.stats.bytes.Add(float64(len(m.text)))
			if m.from != from {
				r.hand(&batch, &results)
				from, batch.Sender = m.from, m.from.String()
			}
			for line := range lines(m.text) {
				r.take(line, &batch, &results)
			}
		}
		r.hand(&batch, &results)
		if now := time.Now(); now.Sub(looked) > time.Second || err != nil {
			looked = now
			r.countDrops(in)
		}
		if err != nil && (ctx.Err() != nil || !errors.Is(err, os.ErrDeadlineExceeded)) {
			if ctx.Err() == nil {
				r.cfg.Logger.WithError(err).WithField("address", in.String()).Error("reading logs has ended")
			}
			return
		}
		if ctx.Err() == nil && len(messages) < intakeBatch/2 {
			// A wake-up for every few lines costs more than the lines, and the socket holds far more than arrives in that time.
			_ = in.packets.SetReadDeadline(time.Now().Add(time.Second))
			time.Sleep(readPause)
		}
	}
}

// lastDatagrams is for how long what is on its way may arrive when the program ends.
const lastDatagrams = 100 * time.Millisecond

// reader returns a function that returns what has arrived, at least one datagram and at most intakeBatch, or an error.
func (in *intake) reader() func() ([]datagram, error) {
	bufs, out := make([][]byte, intakeBatch), make([]datagram, 0, intakeBatch)
	for i := range bufs {
		bufs[i] = make([]byte, maxParse)
	}
	if in.Network == "udp" {
		conn, messages := ipv4.NewPacketConn(in.packets), make([]ipv4.Message, intakeBatch)
		for i := range messages {
			messages[i].Buffers = [][]byte{bufs[i]}
		}
		return func() ([]datagram, error) {
			n, err := conn.ReadBatch(messages, 0)
			out = out[:0]
			for i := range max(n, 0) {
				one := datagram{text: bufs[i][:messages[i].N]}
				if a, ok := messages[i].Addr.(*net.UDPAddr); ok {
					one.from = a.AddrPort().Addr().Unmap()
				}
				out = append(out, one)
			}
			return out, err
		}
	}
	return func() ([]datagram, error) {
		raw, err := in.raw()
		if err != nil {
			return nil, err
		}
		out = out[:0]
		var failed error
		err = raw.Read(func(fd uintptr) bool {
			for len(out) < intakeBatch {
				n, _, err := unix.Recvfrom(int(fd), bufs[len(out)], unix.MSG_DONTWAIT)
				if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
					break
				}
				if err != nil {
					failed = err
					return true
				}
				out = append(out, datagram{text: bufs[len(out)][:n]})
			}
			return len(out) > 0
		})
		return out, errors.Join(failed, err)
	}
}
