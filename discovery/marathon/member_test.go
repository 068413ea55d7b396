package marathon

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMembers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hosts := []string{"m1:8080", "m2:8080", "m3:8080"}
	setup := func(t *testing.T) (*world, []*stub) {
		w := newWorld(t, append(slices.Clone(hosts), "evil:80")...)
		var ms []*stub
		for _, h := range hosts {
			w.at[h].put("/shop", 1)
			ms = append(ms, w.at[h])
		}
		return w, ms
	}
	urls := []string{"http://m1:8080", "http://m2:8080", "http://m3:8080"}
	const encoded = "YWRtaW46czNjcmV0" // admin:s3cret
	cfg := Config{URLs: urls, User: "admin", PasswordFile: secret}

	t.Run("one member is down", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].down = true
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			if !ms[1].leaked(encoded) {
				t.Error("no credentials were sent to a configured member")
			}
		})
	})
	t.Run("the leader is followed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.leader = "http://m3:8080"
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if n := ms[2].count("/v2/apps"); n < 3 {
				t.Errorf("the leader was asked %d times", n)
			}
			if a, b := ms[0].count("/v2/apps"), ms[1].count("/v2/apps"); a+b > 1 {
				t.Errorf("the others were asked %d and %d times", a, b)
			}
		})
	})
	t.Run("the leader is asked for where no answer names it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/leader" {
						reply(rw, 200, `{"leader":"m2:8080"}`)
						return true
					}
					return false
				})
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if n := ms[1].count("/v2/apps"); n < 3 {
				t.Errorf("the leader was asked %d times", n)
			}
			if n := ms[0].count("/v2/leader") + ms[1].count("/v2/leader") + ms[2].count("/v2/leader"); n != 1 {
				t.Errorf("the leader was asked for %d times, want once", n)
			}
		})
	})
	t.Run("an old Marathon without pods and without a leader to ask for stays the first choice", func(t *testing.T) {
		for _, code := range []int{http.StatusNotFound, http.StatusInternalServerError} {
			synctest.Test(t, func(t *testing.T) {
				w, ms := setup(t)
				for _, m := range ms {
					m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
						if strings.HasPrefix(r.URL.Path, "/v2/pods") || r.URL.Path == "/v2/leader" {
							reply(rw, code, `{"message":"URI not found"}`)
							return true
						}
						return false
					})
				}
				f := w.follow(cfg)
				t.Cleanup(f.stop)
				f.expect("/shop: 1=up", 10*time.Second)
				time.Sleep(10 * time.Minute)
				if a, b := ms[1].count("*"), ms[2].count("*"); a+b != 0 {
					t.Errorf("the others were asked %d and %d times", a, b)
				}
				if f.err() != "" {
					t.Errorf("health says %q", f.err())
				}
			})
		}
	})
	t.Run("a standby redirects the stream to the leader, with credentials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/v2/events" {
					http.Redirect(rw, r, "http://m2:8080/v2/events?"+r.URL.RawQuery, http.StatusFound)
					return true
				}
				return false
			})
			ms[1].setFault(func(rw http.ResponseWriter, r *http.Request) bool {
				if u, p, _ := r.BasicAuth(); u != "admin" || p != "s3cret" || r.URL.Path == "/v2/events" && r.URL.Query().Get("plan-format") != "light" {
					reply(rw, 401, `{}`)
					return true
				}
				return false
			})
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(time.Second)
			ms[1].status("/shop", task("/shop", 1), "TASK_KILLED")
			synctest.Wait()
			if !f.health().Connected {
				t.Errorf("health %+v", f.health())
			}
		})
	})
	t.Run("a redirect to a foreign host carries no credentials", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for _, m := range ms {
				m.leader = "http://evil:80"
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/events" {
						http.Redirect(rw, r, "http://evil/v2/events", http.StatusFound)
						return true
					}
					return false
				})
			}
			evil := w.at["evil:80"]
			evil.setFault(func(rw http.ResponseWriter, _ *http.Request) bool { reply(rw, 401, `{}`); return true })
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(5 * time.Minute)
			if evil.count("*") == 0 {
				t.Error("the redirect was not followed at all")
			}
			if evil.leaked("Basic") {
				t.Error("credentials were sent to a foreign host")
			}
			if f.health().Connected || !strings.Contains(f.err(), "evil") {
				t.Errorf("health %+v", f.health())
			}
			f.expect("/shop: 1=up", 0)
		})
	})
	t.Run("redirects in a circle end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			for i, m := range ms {
				to := urls[(i+1)%3]
				m.setFault(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path == "/v2/events" {
						http.Redirect(rw, r, to+"/v2/events", http.StatusFound)
						return true
					}
					return false
				})
			}
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			time.Sleep(time.Minute)
			if n := ms[0].count("/v2/events"); n > 60 {
				t.Errorf("%d connections to one member in a minute", n)
			}
		})
	})
	t.Run("two leaders with different lists", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, ms := setup(t)
			ms[0].leader, ms[1].leader = "http://m2:8080", "http://m1:8080"
			f := w.follow(cfg)
			t.Cleanup(f.stop)
			f.expect("/shop: 1=up", 10*time.Second)
			f.always("/shop: 1=up", 5*time.Minute)
		})
	})
}

// directory is a Directory that a test tells what to say.
type directory struct {
	known   []string
	says    chan []string
	trouble string
}

func (d *directory) Known() []string { return d.known }
func (d *directory) Trouble() string { return d.trouble }

func (d *directory) Run(ctx context.Context, set func([]string)) {
	for {
		select {
		case urls := <-d.says:
			set(urls)
		case <-ctx.Done():
			return
		}
	}
}

func TestDirectory(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "m1:8080", "m2:8080", "m3:8080")
		for i, h := range []string{"m1:8080", "m2:8080", "m3:8080"} {
			w.at[h].put("/shop", i+1)
		}
		d := &directory{says: make(chan []string), trouble: "nobody leads"}
		f := w.follow(Config{Directory: d, User: "admin", PasswordFile: secret})
		t.Cleanup(f.stop)
		time.Sleep(time.Minute)
		d.says <- []string{"http://m1:8080"}
		f.expect("/shop: 1=up", 10*time.Second)
		if w.at["m2:8080"].leaked("YWRtaW46czNjcmV0") || w.at["m2:8080"].count("/v2/apps") != 0 {
			t.Error("a member that nobody named was asked")
		}
		d.says <- []string{"http://m2:8080", "http://m1:8080"} // the old leader still answers, and its stream still stands
		f.expect("/shop: 2=up", 5*time.Second)
		d.says <- []string{"http://m3:8080"}
		f.expect("/shop: 3=up", 5*time.Second)
		before := w.at["m1:8080"].count("/v2/apps") + w.at["m2:8080"].count("/v2/apps")
		time.Sleep(5 * time.Minute)
		if after := w.at["m1:8080"].count("/v2/apps") + w.at["m2:8080"].count("/v2/apps"); after != before {
			t.Errorf("members that are none any more were asked %d times", after-before)
		}
	})
}
