package devcluster

import (
	"encoding/json"
	"testing"
)

func TestSelectors(t *testing.T) {
	labels := map[string]string{"tier": "front", "a.b": "x y", "empty": ""}
	for s, want := range map[string]bool{
		"tier": true, "nix": false, "tier==front": true, "tier == back": false, "tier!=back": true, "nix!=x": false,
		"tier in (back, front)": true, "tier notin (back)": true, "tier notin (front)": false, "tier, a.b": true,
		"tier==front, nix": false, `a.b==x\ y`: true, "empty": true,
	} {
		sel, err := parseSelector(s)
		if err != nil || sel.matches(labels) != want {
			t.Errorf("%q: %v, %v; want %v", s, sel.matches(labels), err, want)
		}
	}
	for _, s := range []string{"a==", "==a", "a in", "a in (", "a in (b", "a in ()", "a,", "a b", "(", "a &"} {
		if _, err := parseSelector(s); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
}

func FuzzSelector(f *testing.F) {
	f.Add("a==b, c in (d, e)")
	f.Fuzz(func(_ *testing.T, s string) {
		if sel, err := parseSelector(s); err == nil {
			sel.matches(map[string]string{"a": "b"})
		}
	})
}

func FuzzApp(f *testing.F) {
	f.Add([]byte(`{"cmd":"x","container":{"docker":{"image":"i","network":"BRIDGE","portMappings":[{"containerPort":1}]}},"ports":[0],"healthChecks":[{}]}`))
	f.Add([]byte(`{"args":["x"],"ipAddress":{"discovery":{"ports":[{"number":1,"name":"a"}]}},"unreachableStrategy":"disabled","readinessChecks":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var u update
		if json.Unmarshal(b, &u) != nil {
			return
		}
		for _, emulate := range []string{"1.11", "1.4"} {
			base := defaultApp(emulate)
			base.ID = "/a"
			a, err := u.apply(base, emulate)
			if err != nil {
				continue
			}
			for _, v := range []any{a, a.as14()} {
				if !json.Valid(encode(v)) {
					t.Errorf("not JSON: %s", encode(v))
				}
			}
			if !a.sameConfig(a.clone()) {
				t.Error("a copy is another app")
			}
		}
	})
}
