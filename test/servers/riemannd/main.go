// Command riemannd speaks Riemann's protocol with the message types of riemann-go-client: it prints each event that it is sent as a line
// of JSON, and answers ok. Its first line is its address.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/golang/protobuf/proto"
	riemann "github.com/riemann/riemann-go-client/proto"
)

// event is the printed form.
type event struct {
	Host, Service, State, Description string
	Time, TimeMicros                  int64
	TTL                               float32
	Tags                              []string
	Attributes                        map[string]string
	Whole                             *int64   // metric_sint64
	Figure                            *float64 // metric_d
}

func main() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	var out sync.Mutex
	for {
		conn, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		go func() {
			defer conn.Close()
			for {
				if err := one(conn, &out); err != nil {
					if err != io.EOF {
						fmt.Fprintln(os.Stderr, err)
					}
					return
				}
			}
		}()
	}
}

// one reads a message, prints its events and answers.
func one(conn net.Conn, out *sync.Mutex) error {
	var size uint32
	if err := binary.Read(conn, binary.BigEndian, &size); err != nil {
		return err
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(conn, b); err != nil {
		return err
	}
	var msg riemann.Msg
	if err := proto.Unmarshal(b, &msg); err != nil {
		return err
	}
	out.Lock()
	defer out.Unlock()
	for _, e := range msg.GetEvents() {
		one := event{
			Host: e.GetHost(), Service: e.GetService(), State: e.GetState(), Description: e.GetDescription(), Time: e.GetTime(),
			TimeMicros: e.GetTimeMicros(), TTL: e.GetTtl(), Tags: e.GetTags(), Attributes: map[string]string{}, Whole: e.MetricSint64, Figure: e.MetricD,
		}
		for _, a := range e.GetAttributes() {
			one.Attributes[a.GetKey()] = a.GetValue()
		}
		line, err := json.Marshal(one)
		if err != nil {
			return err
		}
		fmt.Println(string(line))
	}
	answer, err := proto.Marshal(&riemann.Msg{Ok: proto.Bool(true)})
	if err != nil {
		return err
	}
	if err := binary.Write(conn, binary.BigEndian, uint32(len(answer))); err != nil {
		return err
	}
	_, err = conn.Write(answer)
	return err
}
