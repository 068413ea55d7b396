package signalbox

import "testing"

func TestCheckRegex(t *testing.T) {
	for expr, ok := range map[string]bool{
		`/v[0-9]+/.*`: true, `/[^/]+/[^/]+\.html`: true, `/(?:en|de)(/.*)?`: true, `/a{2,3}`: true, `/\d+`: true, `/[]a]+`: true, `/\{x\}`: true,
		`(a*)*`: false, `(?:a*)*`: false, `(a|aa)+`: false, `(a?){9}`: false, `/a++`: false, `/a+?`: false, `(?i)/a`: false, `/a b`: false,
		`/[[:alpha:]]`: false, `/[:x:]`: false, `/\bx`: false, `/\pL`: false, `/(?=x)`: false, `/a\`: false, `(`: false, ``: false,
		`.*.*.*`: false, `[^/]*[^/]*[^/]*[^/]*x`: false, `a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?`: false, `a{1,99}a{1,99}`: false, `(a|b)(a|b)`: true,
		`/a{,3}`: false, `a{1001}`: false, `([a-z]{90}){90}`: false, "/\u00fc": false, `/#`: false, `/"`: false, `(?P<x>a)`: false, `/{`: false,
	} {
		if err := CheckRegex(expr); (err == nil) != ok {
			t.Errorf("%s: %v, want it taken: %v", expr, err, ok)
		}
	}
}
