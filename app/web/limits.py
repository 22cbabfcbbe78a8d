"""What is too large is turned down before it is read."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.web.errors import ApiError, json_response


class BodyLimit:
    """Answers 413 to a body of more than `bytes_max`, declared or not."""

    def __init__(self, app: ASGIApp, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._declared(scope) > self._bytes_max:
            await json_response(413, self._detail)(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    @property
    def _detail(self) -> dict[str, str]:
        return {"detail": f"The body is larger than {self._bytes_max} bytes."}

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._bytes_max:
                raise ApiError(413, self._detail["detail"])
            return message

        return counted

    @staticmethod
    def _declared(scope: Scope) -> int:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        return int(length) if length.isdigit() else 0
