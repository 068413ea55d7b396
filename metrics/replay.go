package metrics

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// ReplayConfig says how a log is read. The zero value takes the defaults.
type ReplayConfig struct {
	Workers int // 0: as many as there are processors for the program
	// Block is how many bytes a worker takes at a time, and the longest line; 0: 256 KiB, which leaves a core's cache to the totals.
	Block int
}

// Replay counts the records of a log that has been written. Any number of workers read it block by block, each into totals of its
// own; these merge exactly, so that the figures do not depend on who read what. It keeps no account of losses, because a file says
// nothing about lines that are not in it, and of tasks only the numbers of requests.
type Replay struct {
	cfg   ReplayConfig
	lines atomic.Uint64
}

// Replayed is what a log came to.
type Replayed struct {
	Snapshot *Snapshot
	Lines    uint64
	Requests uint64 // Lines that were requests, or connections of TCP services
	// Truncated are the Requests of whose lines the end was missing, or could not be trusted.
	Truncated uint64
	Notices   uint64 // lines in which HAProxy, or somebody else, speaks about itself
	Failed    uint64 // connections that failed before there was a request, in the TLS handshake for instance
	// Dropped are lines of which the log says that they were lost before they got into it.
	Dropped uint64
	// Bad counts the lines that could not be read, by reason.
	Bad map[Reason]uint64
	// From and To are when the first request was accepted and the last one ended, on the clock that wrote the log; zero without any.
	From, To time.Time
}

// NewReplay returns one for one log.
func NewReplay(cfg ReplayConfig) *Replay {
	if cfg.Workers <= 0 {
		cfg.Workers = runtime.GOMAXPROCS(0)
	}
	if cfg.Block <= 0 {
		cfg.Block = 256 << 10
	}
	return &Replay{cfg: cfg}
}

// Lines returns how many lines have been read up to now. It may be called while Run does.
func (p *Replay) Lines() uint64 { return p.lines.Load() }

// Run reads a log to its end. An error of the reader ends it, with what was counted up to there.
func (p *Replay) Run(ctx context.Context, log io.Reader) (*Replayed, error) {
	source := &blocks{log: log}
	tallies := make([]*tally, p.cfg.Workers)
	var working sync.WaitGroup
	for i := range tallies {
		t := newTally()
		tallies[i] = t
		working.Go(func() {
			buf := make([]byte, p.cfg.Block, p.cfg.Block+minQuick)
			for ctx.Err() == nil {
				block, long, ok := source.next(buf)
				before := t.out.Lines
				t.block(block, source.journal)
				if long {
					t.out.Lines++
					t.out.Bad[ReasonTooLong]++
				}
				p.lines.Add(t.out.Lines - before)
				if !ok {
					return
				}
			}
		})
	}
	working.Wait()
	out := merged(tallies)
	if err := ctx.Err(); err != nil {
		return out, fmt.Errorf("reading the log: %w", err)
	}
	return out, source.err
}

// blocks cuts a log into blocks of whole lines, for one worker after the other.
type blocks struct {
	mu      sync.Mutex
	log     io.Reader
	rest    []byte // begun line that belongs to the next block
	begun   bool
	journal bool // the log is a journal's export; set before the first block is handed out
	skip    bool // within a line that is too long
	done    bool
	err     error
}

// next fills buf and returns what of it are whole lines; the last block of a log may end without a newline. Long says that a line
// was left out because it does not fit; ok is false with the last block.
func (b *blocks) next(buf []byte) (block []byte, long, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return nil, false, false
	}
	n := copy(buf, b.rest)
	b.rest = b.rest[:0]
	for {
		m, err := fill(b.log, buf[n:])
		n += m
		if err != nil {
			b.done = true
			if !errors.Is(err, io.EOF) {
				b.err = fmt.Errorf("reading the log: %w", err)
			}
		}
		if !b.begun {
			b.begun, b.journal = true, bytes.HasPrefix(buf[:n], []byte("__CURSOR="))
		}
		block = buf[:n]
		if b.skip {
			i := bytes.IndexByte(block, '\n')
			if i < 0 && !b.done {
				n = 0
				continue
			}
			b.skip = i < 0
			block = block[i+1:]
			if b.skip {
				block = nil
			}
		}
		if b.done {
			return block, long, false
		}
		i := bytes.LastIndexByte(block, '\n')
		if i < 0 && len(block) == len(buf) {
			b.skip, long = true, true
			return nil, long, true
		}
		b.rest = append(b.rest, block[i+1:]...)
		return block[:i+1], long, true
	}
}

// fill reads until buf is full or the reader ends.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return n, err
}

// The limits of a replay are such that no log of a sane HAProxy reaches them: what exceeds one depends on who read what.
const (
	replayServices = 1 << 16
	replayTasks    = 1 << 16
)

// tally is what one worker has counted.
type tally struct {
	agg     *Aggregator
	seed    uint64
	places  []slot // open addressing; a power of two, and never full
	used    int
	quicks  int    // services with quickTotals
	settled uint64 // lines at the last settle
	// fronts are names under which a request was logged that reached no server, and that is its frontend's as well.
	fronts   map[string]bool
	from, to int64 // ms
	out      Replayed
	record   Record
	parser   parser
	head     prefix // the header of the last line that behead could tell by it
	frontend prefix // that of the last request as its line has it, with the space behind it
	overTLS  bool   // by the frontend
	scratch  []byte
}

// place is where the records of a "backend/server" count.
type place struct {
	ends    pairEnds
	pair    string
	quick   *quickTotals
	task    *part // nil: no server
	service *service
	classes [len(classNames)]uint32 // of method GET, by the quick way
}

func newTally() *tally {
	return &tally{
		agg:  NewAggregator(AggregatorConfig{MaxServices: replayServices, MaxTasks: replayTasks}),
		seed: rand.Uint64(), places: make([]slot, 256), fronts: map[string]bool{}, from: 1<<63 - 1,
		out: Replayed{Bad: map[Reason]uint64{}}, parser: parser{remembers: true},
	}
}

// block counts the lines of a block. The memory behind it, up to its capacity, may be looked at.
func (t *tally) block(block []byte, journal bool) {
	if t.out.Lines-t.settled > settleEvery {
		t.settle()
	}
	room := 0
	if n := len(block); n > 0 && block[n-1] == '\n' {
		room = min(minQuick, cap(block)-n)
	}
	for len(block) > 0 {
		if n := t.quick(block[:len(block)+room]); n > 0 {
			t.out.Lines++
			block = block[n+1:]
			continue
		}
		line := block
		if i := bytes.IndexByte(block, '\n'); i >= 0 {
			line, block = block[:i], block[i+1:]
		} else {
			block = nil
		}
		if journal && !bytes.HasPrefix(line, []byte("MESSAGE=")) {
			continue // another field of the entry
		}
		t.general(line)
	}
}

// general counts a line of any kind.
func (t *tally) general(line []byte) {
	r := &t.record
	t.out.Lines++
	*r = blank
	if reason := t.parser.parse(line, r); reason != ReasonNone {
		t.out.Bad[reason]++
		return
	}
	switch r.Kind {
	case KindDropped:
		t.out.Dropped += r.Dropped
		return
	case KindNotice:
		if len(r.Client) > 0 {
			t.out.Failed++
		} else {
			t.out.Notices++
		}
		return
	}
	t.out.Requests++
	if r.Truncated {
		t.out.Truncated++
	}
	if r.Accepted > 0 {
		t.from = min(t.from, r.Accepted)
		t.to = max(t.to, r.Accepted+max(r.Handshake, 0)+max(r.Idle, 0)+max(r.Total, 0))
	}
	m := measure(r)
	if r.Standard && len(r.Service) > 0 {
		if r.Kind == KindHTTP {
			t.remember(r)
		}
		at := t.place(r)
		at.service.count(r, &m)
		at.service.fail(m.failure, "", "")
		if at.task != nil {
			at.task.classes.add(classKey(m.method, m.class), 1)
		}
		return
	}
	s, ok := t.agg.services[string(r.Service)]
	if !ok {
		s = t.agg.service(serviceName(r))
	}
	s.count(r, &m)
	s.fail(m.failure, "", "")
	if len(r.ServerAddr) > 0 {
		t.agg.task(s, r, time.Time{}).classes.add(classKey(m.method, m.class), 1)
	}
}

// remember notes a request's frontend for the quick way.
func (t *tally) remember(r *Record) {
	t.scratch = append(t.scratch[:0], r.Frontend...)
	if t.overTLS = len(r.TLSVersion) > 0; t.overTLS {
		t.scratch = append(t.scratch, '~')
	}
	t.scratch = append(t.scratch, ' ')
	t.frontend.set(t.scratch)
}

// slot is a place in the table of pairs, by the pair's hash.
type slot struct {
	hash uint64
	at   *place // nil: free
}

// pairEnds are the first and the last 24 bytes of a pair; one that is shorter, and zeros.
type pairEnds [6]uint64

func endsOf(pair []byte) (e pairEnds) {
	if len(pair) < 24 {
		var padded [24]byte
		copy(padded[:], pair)
		e[0], e[1], e[2] = binary.LittleEndian.Uint64(padded[:8]), binary.LittleEndian.Uint64(padded[8:16]), binary.LittleEndian.Uint64(padded[16:])
		return e
	}
	first, last := (*[24]byte)(pair), (*[24]byte)(pair[len(pair)-24:])
	e[0], e[1], e[2] = binary.LittleEndian.Uint64(first[:8]), binary.LittleEndian.Uint64(first[8:16]), binary.LittleEndian.Uint64(first[16:])
	e[3], e[4], e[5] = binary.LittleEndian.Uint64(last[:8]), binary.LittleEndian.Uint64(last[8:16]), binary.LittleEndian.Uint64(last[16:])
	return e
}

func (e *pairEnds) same(o *pairEnds) bool {
	return (e[0]^o[0])|(e[1]^o[1])|(e[2]^o[2])|(e[3]^o[3])|(e[4]^o[4])|(e[5]^o[5]) == 0
}

// hash mixes all of a pair, eight bytes at a time.
func (t *tally) hash(pair []byte, e *pairEnds) uint64 {
	h := mix(t.seed^e[0], e[1]) ^ mix(t.seed+e[2], e[3]) ^ mix(e[4], t.seed+e[5])
	for i := 24; i < len(pair)-24; i += 8 {
		h = mix(h, binary.LittleEndian.Uint64(pair[i:i+8]))
	}
	return h
}

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return high ^ low
}

// known returns where the records of a pair count that has been seen before, else nil.
func (t *tally) known(pair []byte) *place {
	e := endsOf(pair)
	places, hash := t.places, t.hash(pair, &e)
	for i := hash; ; i++ {
		s := &places[i&uint64(len(places)-1)]
		if s.at == nil || s.hash == hash && len(s.at.pair) == len(pair) && s.at.ends.same(&e) && (len(pair) <= 48 || s.at.pair == string(pair)) {
			return s.at
		}
	}
}

// place returns where a record of one of HAProxy's own formats counts.
func (t *tally) place(r *Record) *place {
	if at := t.known(r.pair); at != nil {
		if at.task == nil {
			t.front(at.service, r)
		}
		return at
	}
	at := &place{ends: endsOf(r.pair), pair: string(r.pair), service: t.agg.service(serviceName(r))}
	if len(r.ServerAddr) > 0 {
		at.task = at.service.taskOf(t.agg, string(r.ServerAddr))
	} else {
		t.front(at.service, r)
	}
	put(t.places, slot{t.hash(r.pair, &at.ends), at})
	if t.used++; 2*t.used > len(t.places) {
		t.grow()
	}
	return at
}

// front notes that a request was logged under its frontend's name: no backend was chosen, unless it is a listen section.
func (t *tally) front(s *service, r *Record) {
	if bytes.Equal(r.Backend, r.Frontend) && !t.fronts[s.name] {
		t.fronts[s.name] = true
	}
}

func (t *tally) grow() {
	places := make([]slot, 2*len(t.places))
	for _, s := range t.places {
		if s.at != nil {
			put(places, s)
		}
	}
	t.places = places
}

// put puts a place where it is looked for.
func put(places []slot, s slot) {
	mask := uint64(len(places) - 1)
	i := s.hash & mask
	for places[i].at != nil {
		i = (i + 1) & mask
	}
	places[i] = s
}

// merged adds the workers' totals up. What was logged under the name of a frontend from which no request ever reached a server
// belongs to no service; a listen section's name is a service's.
func merged(tallies []*tally) *Replayed {
	sum := &Replayed{Snapshot: &Snapshot{}, Bad: map[Reason]uint64{}}
	fronts := map[string]bool{}
	from, to := int64(1<<63-1), int64(0)
	for _, t := range tallies {
		t.settle()
		sum.Snapshot = sum.Snapshot.Merge(t.agg.Snapshot(time.Time{}))
		sum.Lines += t.out.Lines
		sum.Requests += t.out.Requests
		sum.Truncated += t.out.Truncated
		sum.Notices += t.out.Notices
		sum.Failed += t.out.Failed
		sum.Dropped += t.out.Dropped
		for reason, n := range t.out.Bad {
			sum.Bad[reason] += n
		}
		for name := range t.fronts {
			fronts[name] = true
		}
		from, to = min(from, t.from), max(to, t.to)
	}
	if to > 0 {
		sum.From, sum.To = time.UnixMilli(from).UTC(), time.UnixMilli(to).UTC()
		sum.Snapshot.At = sum.To
	}
	var services, none []ServiceTotals
	for _, s := range sum.Snapshot.Services {
		if fronts[s.Service] && len(s.Tasks) == 0 {
			s.Service = NoService
			none = mergeSorted(none, []ServiceTotals{s}, func(t ServiceTotals) string { return t.Service }, mergeService)
		} else {
			services = append(services, s)
		}
	}
	sum.Snapshot.Services = mergeSorted(services, none, func(t ServiceTotals) string { return t.Service }, mergeService)
	return sum
}
