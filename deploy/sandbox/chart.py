"""The chart pages: patient list, chart, cards panel, SMART launches, feedback.

The browser never talks to the CDS service: it asks this EHR, which signs and times the
call. What the browser sends back are positions in cards that this EHR received (which
link, which reason), never addresses or codes of its own, so that a page cannot make
the EHR open a foreign address or report a made-up answer.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, redirect, render_template, request

from deploy.sandbox import card_view, chart_view
from deploy.sandbox.cds_client import HookCall, call_hook, discover, send_feedback
from deploy.sandbox.ehr import Ehr
from deploy.sandbox.errors import CdsCallError, RequestError
from deploy.sandbox.film_png import film_png
from deploy.sandbox.launches import LaunchContext
from deploy.sandbox.prefetch import PrefetchMode
from deploy.sandbox.store import Resource
from deploy.sandbox.suggested_actions import apply_suggestion

CHART_HOOK = "patient-view"
THUMBNAIL, FULL = 640, 2048
KEPT_CALLS = 200


class CallLog:
    """The last hook calls, so that a click can be traced to the card it was on."""

    def __init__(self) -> None:
        self._calls: OrderedDict[str, tuple[str, HookCall]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, patient_id: str, call: HookCall) -> str:
        """Remember a call; returns its key."""
        key = secrets.token_urlsafe(9)
        with self._lock:
            self._calls[key] = (patient_id, call)
            while len(self._calls) > KEPT_CALLS:
                self._calls.popitem(last=False)
        return key

    def card(
        self, patient_id: str, key: str, index: str
    ) -> tuple[HookCall, dict[str, Any]]:
        """The card at a position of a call made for this patient.

        Raises:
            RequestError: 404, no such card.
        """
        with self._lock:
            owner, call = self._calls.get(key, ("", None))
        if call is None or owner != patient_id:
            raise RequestError(404, "not-found", "this card is no longer known")
        return call, at(call.cards, index)


def at(items: list[Any], index: Any) -> Any:
    """The item at a position given as text or number.

    Raises:
        RequestError: 404, there is no such position.
    """
    position = str(index)
    if not position.isdigit() or int(position) >= len(items):
        raise RequestError(404, "not-found", "no such item on this card")
    return items[int(position)]


def chart_blueprint(ehr: Ehr) -> Blueprint:
    """The pages and the routes behind their buttons."""
    routes = Blueprint("chart", __name__)
    calls = CallLog()

    @routes.get("/")
    def patients() -> str:
        wanted = request.args.get("q", "").strip()
        everyone = (chart_view.summarise(ehr, p) for p in ehr.store.all("Patient"))
        text = wanted.casefold()
        shown = [p for p in everyone if text in f"{p.name} {p.id}".casefold()]
        shown.sort(key=lambda p: (not p.named, p.name.casefold()))
        return render_template("patients.html", patients=shown, wanted=wanted)

    @routes.get("/chart/<patient_id>")
    def chart(patient_id: str) -> str:
        return render_template(
            "chart.html",
            patient=chart_view.summarise(ehr, _patient(ehr, patient_id)),
            encounter=ehr.encounter_id(patient_id),
            films=chart_view.films_of(ehr, patient_id),
            notes=chart_view.notes_of(ehr, patient_id),
            table=chart_view.table_of(ehr, patient_id),
            modes=list(PrefetchMode),
        )

    @routes.get("/chart/<patient_id>/film/<sop>.png")
    def film(patient_id: str, sop: str) -> Response:
        instance = chart_view.film_instance(ehr, patient_id, sop)
        if instance is None:
            raise RequestError(404, "not-found", "no such film")
        longest = FULL if "full" in request.args else THUMBNAIL
        return Response(film_png(instance.path, longest), content_type="image/png")

    @routes.post("/chart/<patient_id>/cards")
    def cards(patient_id: str) -> Response:
        _patient(ehr, patient_id)
        mode = _prefetch_mode(_same_origin_json(ehr))
        return jsonify(_call_services(ehr, calls, patient_id, mode))

    @routes.get("/chart/<patient_id>/launch")
    def launch(patient_id: str) -> Response:
        key, index = request.args.get("call", ""), request.args.get("card", "")
        _, card = calls.card(patient_id, key, index)
        link = at(card_view.links(card), request.args.get("link", ""))
        return redirect(_launch_url(ehr, patient_id, link))  # type: ignore

    @routes.post("/chart/<patient_id>/feedback")
    def feedback(patient_id: str) -> Response:
        said = _same_origin_json(ehr)
        call, card = calls.card(
            patient_id, str(said.get("call")), str(said.get("card"))
        )
        entry, done = _feedback_entry(ehr, patient_id, card, said)
        try:
            status = send_feedback(ehr, call.service_id, entry)
        except CdsCallError:
            status = 0
        return jsonify({"outcome": entry["outcome"], "status": status, "done": done})

    return routes


def _patient(ehr: Ehr, patient_id: str) -> Resource:
    patient = ehr.patient(patient_id)
    if patient is None:
        raise RequestError(404, "not-found", "no such patient")
    return patient


def _same_origin_json(ehr: Ehr) -> dict[str, Any]:
    """The JSON body of a request from our own page.

    Raises:
        RequestError: 403 from another origin, 400 no JSON object (a form of another
            site cannot send JSON: cross-site request forgery).
    """
    if request.headers.get("Origin", ehr.base_url) != ehr.base_url:
        raise RequestError(403, "forbidden", "another origin")
    body = request.get_json(silent=True) if request.is_json else None
    if not isinstance(body, dict):
        raise RequestError(400, "invalid", "a JSON object is required")
    return body


def _prefetch_mode(body: dict[str, Any]) -> PrefetchMode:
    try:
        return PrefetchMode(body.get("prefetch", PrefetchMode.FILL))
    except ValueError as error:
        raise RequestError(400, "value", "unknown prefetch mode") from error


def _call_services(
    ehr: Ehr, calls: CallLog, patient_id: str, mode: PrefetchMode
) -> dict[str, Any]:
    """Call every service of the chart hook and render what came back."""
    shown: list[dict[str, Any]] = []
    problem = ""
    try:
        services = [s for s in discover(ehr) if s["hook"] == CHART_HOOK]
        for service in services:
            call = call_hook(ehr, patient_id, service=service, prefetch=mode)
            shown.append(_call_view(calls.add(patient_id, call), call, service))
        if not services:
            problem = f"The CDS server offers no service for {CHART_HOOK}."
    except CdsCallError as error:
        problem = f"Decision support could not be reached: {error}."
    html = render_template(
        "cards.html", calls=shown, problem=problem, patient_id=patient_id
    )
    count = sum(len(call["cards"]) for call in shown)
    return {
        "html": html,
        "cards": count,
        "problem": problem,
        "calls": [
            {"service": c["service"], "status": c["status"], "ms": c["elapsed_ms"]}
            for c in shown
        ],
    }


def _call_view(key: str, call: HookCall, service: dict[str, Any]) -> dict[str, Any]:
    issues = call.body.get("issue", []) if isinstance(call.body, dict) else []
    told = [str(i.get("diagnostics") or i.get("code")) for i in issues]
    return {
        "key": key,
        "service": call.service_id,
        "title": str(service.get("title") or call.service_id),
        "status": call.status,
        "issue": "; ".join(told),
        "elapsed_ms": round(call.elapsed_ms),
        "prefetched": ", ".join(call.prefetched) or "nothing",
        "at": datetime.now(UTC),
        "cards": [card_view.view_card(i, c) for i, c in enumerate(call.cards)],
    }


def _launch_url(ehr: Ehr, patient_id: str, link: dict[str, Any]) -> str:
    """The app's address with ``iss`` and a fresh launch context (SMART 2.2, S5)."""
    url = card_view.safe_url(link.get("url"))
    if link.get("type") != "smart" or not url:
        raise RequestError(404, "not-found", "not a SMART link")
    context = link.get("appContext")
    value = ehr.launches.open_launch(
        LaunchContext(
            patient=patient_id,
            encounter=ehr.encounter_id(patient_id),
            app_context=context if isinstance(context, str) else None,
        )
    )
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode({'iss': ehr.fhir_base, 'launch': value})}"


def _feedback_entry(
    ehr: Ehr, patient_id: str, card: dict[str, Any], said: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """The feedback entry for a click (CDS Hooks 2.0, ``#feedback``) and what was done.

    Raises:
        RequestError: 409 for a card without uuid, which cannot be reported on.
    """
    if not isinstance(card.get("uuid"), str):
        raise RequestError(409, "conflict", "a card without uuid takes no feedback")
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    entry: dict[str, Any] = {"card": card["uuid"], "outcomeTimestamp": now}
    if said.get("action") == "accept":
        suggestion = at(card_view.suggestions(card), said.get("suggestion"))
        entry["outcome"] = "accepted"
        entry["acceptedSuggestions"] = [{"id": str(suggestion.get("uuid"))}]
        return entry, apply_suggestion(ehr.store, patient_id, suggestion)
    entry["outcome"] = "overridden"
    reason: dict[str, Any] = {}
    if said.get("reason") not in (None, ""):
        picked = at(card_view.override_reasons(card), said["reason"])
        reason["reason"] = {
            k: picked[k] for k in ("code", "system", "display") if k in picked
        }
    if str(said.get("comment") or "").strip():
        reason["userComment"] = str(said["comment"]).strip()[:1000]
    if reason:
        entry["overrideReason"] = reason
    return entry, []
