"""``medlake accounts``: who may log in. The system administrator proposes, the security administrator lets in."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from medlake.commands.base import Json, listed, measured

app = typer.Typer(help="账号：提出、启用、锁定、重置 / accounts of persons", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="账号 / user")]
By = Annotated[str, typer.Option("--as", help="操作人 / who acts", envvar="MEDLAKE_ACTOR")]


@app.command("create")
def create(
    user: User,
    name: Annotated[str, typer.Option(help="姓名 / name")],
    role: Annotated[str, typer.Option(help="角色 / role")],
    org: Annotated[str, typer.Option("--org", help="机构编码 / institution")],
    by: By,
    oidc: Annotated[str, typer.Option(help="统一身份 issuer|sub / OIDC identity")] = "",
    json: Json = False,
) -> None:
    """提出一个账号，等另一位管理员启用；首次口令只显示这一次 / propose an account; its first password is shown once."""

    def work() -> dict[str, Any]:
        from portal import account_store

        word = account_store.create(user, name, role, org, by=by, state="waiting", oidc=oidc)
        return {"user": user, "state": "waiting", "first_password": word or "—"}

    measured(
        work,
        json,
        "账号 account",
        f"medlake accounts activate {user} --as <安全管理员 security administrator>",
    )


@app.command("activate")
def activate(user: User, by: By, json: Json = False) -> None:
    """启用（提出人不能自己启用）/ let a proposed account in; never by who proposed it."""

    def work() -> dict[str, Any]:
        from portal import account_store

        account_store.activate(user, by=by)
        return {"user": user, "state": "active"}

    measured(work, json, "启用 activate")


@app.command("list")
def list_(json: Json = False) -> None:
    """列出账号（不含任何秘密）/ accounts, without anything secret."""

    def work() -> list[dict[str, Any]]:
        from portal import account_store

        return account_store.listed()

    listed(work, json, "账号 accounts")


@app.command("lock")
def lock(user: User, by: By, json: Json = False) -> None:
    """立即锁定并结束其会话 / close at once, with all sessions."""

    def work() -> dict[str, Any]:
        from portal import account_store

        account_store.lock(user, by=by)
        return {"user": user, "state": "locked"}

    measured(work, json, "锁定 lock")


@app.command("reset")
def reset(user: User, by: By, json: Json = False) -> None:
    """新的首次口令，并解除锁定与第二因子 / a new first password; lock and second factor are taken off."""

    def work() -> dict[str, Any]:
        from portal import account_store

        return {"user": user, "first_password": account_store.reset(user, by=by)}

    measured(work, json, "重置 reset")
