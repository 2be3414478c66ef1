package reason

import "testing"

func TestTheURLOfAnErrorIsShownWithoutItsQueryAndItsUser(t *testing.T) {
	for text, want := range map[string]string{
		`Get "https://a.example/b?token=s3cret": EOF`:               `Get "https://a.example/b": EOF`,
		`Post "https://me:***@a.example:81/b/@c?d#e": EOF`:          `Post "https://a.example:81/b/@c": EOF`,
		`order 7: Get "http://a.example?t=1": x: "y"`:               `order 7: Get "http://a.example": x: "y"`,
		`5" wide: Get "http://a.example/\"?t=1": EOF`:               `5" wide: Get "http://a.example/\"": EOF`,
		`parse "https://me:s3cret@a b/?t=1": invalid character`:     `parse "https://a b/": invalid character`,
		`parse "a.example:80?t=1": first path segment in URL`:       `parse "a.example:80": first path segment in URL`,
		`Get "/b?t=1": unsupported protocol scheme ""`:              `Get "/b": unsupported protocol scheme ""`,
		"Get \"http://a.example/?t=1\": EOF\nGet \"http://b?t\": x": "Get \"http://a.example/\": EOF\nGet \"http://b\": x",
		`panic: Get "https://a.example/?a": b`:                      `panic: Get "https://a.example/": b`,
		// Whatever else the handler says is its own.
		`is it "a?b": no`:               `is it "a?b": no`,
		`see "https://a.example/?help"`: `see "https://a.example/?help"`,
		`"`:                             `"`,
		"\xff":                          "\uFFFD",
	} {
		if shown := Of(text); shown != want {
			t.Errorf("%s: %s", text, shown)
		}
	}
}
