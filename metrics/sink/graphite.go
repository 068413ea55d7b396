package sink

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
)

// graphite sends lines such as signalbox.node1.shop_cart_0.requests 5 1795230850 over TCP. Counts are those of the interval; a node writes
// series of its own, and the time is a multiple of the interval, so that what is sent twice replaces itself.
type graphite struct {
	at     address
	prefix string
	node   string
	tags   bool // Graphite's, in the place of parts of the name
	want   detail
}

func newGraphite(at address, o *options) protocol {
	g := &graphite{at: at, prefix: o.text("prefix", "signalbox"), node: o.in.Node}
	g.tags = o.choice("tags", "none", "graphite") == "graphite"
	g.want, _ = o.detail("none", "summary")
	if strings.Contains(g.prefix, ";") {
		o.wrong("prefix", "may have no ;")
	}
	return g
}

// linesFrame is about how many bytes of lines make a frame.
const linesFrame = 32 << 10

func (g *graphite) encode(iv *Interval) (frames []frame, tooLong int) {
	var now frame
	var words services
	at := " " + strconv.FormatInt(iv.To.Unix(), 10) + "\n"
	line := func(p *Point, figure, value string) {
		now.data = append(now.data, g.name(p, figure, &words)...)
		now.data = append(now.data, ' ')
		now.data = append(now.data, value...)
		now.data = append(now.data, at...)
		now.points++
		if len(now.data) >= linesFrame {
			frames, now = append(frames, now), frame{}
		}
	}
	for p := range iv.points(g.want) {
		if p.Times == nil {
			line(p, "", strconv.FormatUint(p.Count, 10))
			continue
		}
		for _, f := range summary(p.Times) {
			line(p, f.name, number(f.ms))
		}
	}
	if len(now.data) > 0 {
		frames = append(frames, now)
	}
	return frames, 0
}

// name returns the name of a series. Tags are sorted, as Graphite sorts them.
func (g *graphite) name(p *Point, figure string, words *services) string {
	var name []string
	if g.prefix != "" {
		name = append(name, g.prefix)
	}
	if g.tags {
		name = append(name, p.Name)
		if figure != "" {
			name = append(name, figure)
		}
		tags := append(p.tags("=", graphiteReserved), "node="+tagValue(g.node, graphiteReserved))
		slices.Sort(tags)
		return strings.Join(name, ".") + ";" + strings.Join(tags, ";")
	}
	name = append(name, nodeWord(g.node))
	name = p.dotted(name, words)
	if figure != "" {
		name = append(name, figure)
	}
	return strings.Join(name, ".")
}

// graphiteReserved is what no value of a tag may have: a ~ may not come first.
const graphiteReserved = ";~"

// send implements protocol: one connection, whose closing by the server, after ours, says that it has read everything. What a broken
// connection leaves in doubt is sent again.
func (g *graphite) send(ctx context.Context, frames []frame, settled func(string)) error {
	conn, err := g.at.dial(ctx, "tcp")
	if err != nil {
		return err
	}
	defer conn.Close()
	var data bytes.Buffer
	for _, f := range frames {
		data.Write(f.data)
	}
	for data.Len() > 0 {
		if _, err := conn.Write(data.Next(linesFrame)); err != nil {
			return failed("write", err)
		}
	}
	tcp, ok := conn.Conn.(*net.TCPConn)
	if !ok {
		return failed("write", errors.New("no TCP connection"))
	}
	if err := tcp.CloseWrite(); err != nil {
		return failed("write", err)
	}
	if err := conn.extend(); err != nil {
		return failed("answer", err)
	}
	// What a server says is of no interest, but one that never ends is given up.
	if n, err := io.Copy(io.Discard, io.LimitReader(conn.Conn, 1<<16)); err != nil {
		return failed("answer", err)
	} else if n == 1<<16 {
		return failed("answer", errors.New("the server talks, and Graphite's protocol has no answers"))
	}
	for range frames {
		settled("")
	}
	return nil
}
