package marathon

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What people post has many shapes; each app and pod in it is found, under its whole id, with its line.
func TestDefinitionsAreFoundInEveryShape(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		found, err := ReadDefinitions([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		var got []string
		for _, d := range found {
			kind := "app"
			switch {
			case d.Err != nil:
				kind = "bad: " + d.Err.Error()
			case d.Pod != nil:
				kind = "pod"
			}
			got = append(got, fmt.Sprintf("%d %s %s", d.Line, d.ID, kind))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	f(`{"id": "/shop"}`, "1 /shop app")
	f("\ufeff"+`{"id": "shop"}`, "1 /shop app")
	f("[\n{\"id\": \"/a\"},\n{\"id\": \"/b\"}]", "2 /a app", "3 /b app")
	f(`{"apps": []}`)
	f(`{"apps": [{"id": "/a", "tasks": [{"id": "a.1"}]}]}`, "1 /a app")
	f(`{"app": {"id": "/a"}}`, "1 /a app")
	f(`{"id": "/shop", "apps": [{"id": "cart"}, {"id": "/else"}, {"id": "../up"}],
"groups": [{"id": "deep", "apps": [{"id": "a"}], "pods": [{"id": "p", "containers": []}]}]}`,
		"1 /shop/cart app", "1 /else app", "1 /up app", "2 /shop/deep/a app", "2 /shop/deep/p pod")
	f(`[{"id": "/p", "spec": {"id": "/p", "containers": [{"name": "c"}]}, "instances": []}]`, "1 /p pod")
	f(`{"cmd": "sleep 1"}`, "1  bad: it has no id")
	f(`["/a"]`, "1  bad: it is no object")
	f(`{"id": "/a", "labels": []}`, "1 /a bad: its labels are no object")
	f(`{"id": "/a b"}`, `1 /a b bad: "/a b" is no id`)
	f(`{"id": "/a", "portDefinitions": "none"}`, "1 /a bad: its portDefinitions is a string")
	f(`{"id": "/p", "containers": [{"name": 7}]}`, "1 /p bad: its containers.name is a number")
}

func TestLabelsAreFoundInTheText(t *testing.T) {
	found, err := ReadDefinitions([]byte(`{
  "id": "/a",
  "portDefinitions": [{"port": 0, "labels": {
    "signalbox.host": "port.local"
  }}],
  "labels": {
    "signalbox.host": "a.local",
    "signalbox.path": "/x",
    "signalbox.path": "/y"
  }
}`))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	d := &found[0]
	for label, want := range map[string]int{"signalbox.host": 7, "signalbox.path": 9, "nothing": 1} {
		if got := d.LineOf(label); got != want {
			t.Errorf("%s is said to stand on line %d, want %d", label, got, want)
		}
	}
	if len(d.Problems) != 1 || d.Problems[0].Code != "SB329" || d.Problems[0].Value != "/y" {
		t.Errorf("problems %v, want one of the path that stands twice", d.Problems)
	}
	services, problems := d.Convert(Options{})
	if len(services) != 1 || len(problems) != 0 || services[0].Routes[0].String() != "port.local/y" {
		t.Errorf("it means %v and %v", services, problems)
	}
}

// An app that says nothing about ports gets one, as Marathon gives it; one that says it has none gets none.
func TestDefinitionsHaveMarathonsDefaultPort(t *testing.T) {
	for text, want := range map[string]int{
		`{"id": "/a"}`: 1, `{"id": "/a", "ports": []}`: 0, `{"id": "/a", "portDefinitions": []}`: 0, `{"id": "/a", "ports": [0, 0]}`: 2,
		`{"id": "/a", "networks": [{"mode": "container/bridge"}]}`:                               1,
		`{"id": "/a", "networks": [{"mode": "container", "name": "x"}]}`:                         0,
		`{"id": "/a", "container": {"docker": {"network": "BRIDGE", "portMappings": [{}, {}]}}}`: 2,
	} {
		found, err := ReadDefinitions([]byte(text))
		if err != nil || len(found) != 1 || found[0].App == nil {
			t.Fatal(text, found, err)
		}
		if got := len(found[0].App.ports()); got != want {
			t.Errorf("%s has %d ports, want %d", text, got, want)
		}
	}
}

func TestDefinitionsKeepAssignedPorts(t *testing.T) {
	for _, text := range []string{
		`{"id": "/a", "ports": [0, 8080]}`, `{"id": "/a", "portDefinitions": [{}, {"port": 8080}]}`,
		`{"id": "/a", "container": {"docker": {"network": "BRIDGE", "portMappings": [{}, {"servicePort": 8080}]}}}`,
	} {
		found, err := ReadDefinitions([]byte(text))
		if err != nil || len(found) != 1 {
			t.Fatal(text, found, err)
		}
		found[0].KeepPorts(func(i int) int { return 10000 + i })
		ports := found[0].App.ports()
		if len(ports) != 2 || ports[0].service != 10000 || ports[1].service != 8080 {
			t.Errorf("%s has the ports %+v, want 10000 and 8080", text, ports)
		}
	}
}

func TestWhatIsNoJSONIsPointedAt(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "1:1: unexpected end",
		"{\n  \"id\": \"/a\",\n}": "3:1: invalid character '}'",
		`{"id" "/a"}`:             "1:7: invalid character '\"' after object key",
		"{\n\"id\": \"/a\"":       "2:10: unexpected end",
		`{} {}`:                   "1:4: invalid character '{' after top-level value",
	} {
		_, err := ReadDefinitions([]byte(text))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func FuzzReadDefinitions(f *testing.F) {
	f.Add(`{"id": "/a", "labels": {"signalbox.host": "a"}}`)
	f.Add(`[{"id": "/g", "groups": [{"id": "h", "apps": [{"id": "a"}]}]}, {"apps": [1, null, []]}]`)
	f.Add(`{"id": "p", "containers": [{"endpoints": [{"labels": {"x": 1}}]}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := ReadDefinitions([]byte(text))
		if err != nil && len(found) > 0 {
			t.Fatal("an error and definitions")
		}
		for i := range found {
			d := &found[i]
			if d.Line < 1 || d.LineOf("x") > strings.Count(text, "\n")+1 {
				t.Fatalf("line %d of a text of %d", d.Line, strings.Count(text, "\n")+1)
			}
			d.Convert(Options{})
		}
	})
}

// A cluster's worth of apps is read in one go: the time grows with the text, not with its square.
func TestManyDefinitionsAreReadAtOnce(t *testing.T) {
	var b strings.Builder
	b.WriteString("[\n")
	for i := range 3000 {
		fmt.Fprintf(&b, "{\"id\": \"/a%d\",\n \"labels\": {\"signalbox.host\": \"a%d.local\",\n  \"signalbox.path\": \"/x\"}},\n", i, i)
	}
	b.WriteString("{\"id\": \"/last\"}]")
	start := time.Now()
	found, err := ReadDefinitions([]byte(b.String()))
	if err != nil || len(found) != 3001 {
		t.Fatal(len(found), err)
	}
	if d := found[2999]; d.Line != 2+3*2999 || d.LineOf("signalbox.path") != d.Line+2 {
		t.Errorf("the app on line %d has its path on line %d", d.Line, d.LineOf("signalbox.path"))
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
